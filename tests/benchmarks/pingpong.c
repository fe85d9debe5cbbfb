/* Two ranks: half the round trip of a small message in microseconds, and the MB/s of large ones, each the best of
   some blocks, so that what else the machine does counts little. More ranks only meet, and end. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static char *data;

/* The seconds of one message each way, over `count` of them. */
static double block(int rank, int size, int count) {
    double start = MPI_Wtime();
    for (int i = 0; i < count; i++) {
        if (rank == 0) {
            MPI_Send(data, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(data, size, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(data, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(data, size, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / count;
}

static double best(int rank, int size, int count, int blocks) {
    double shortest = block(rank, size, count);
    for (int i = 1; i < blocks; i++) {
        double seconds = block(rank, size, count);
        if (seconds < shortest)
            shortest = seconds;
    }
    return shortest;
}

int main(int count, char **words) {
    const int large = 4 << 20;
    int rank, size;
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Barrier(MPI_COMM_WORLD);
    if (size == 2) {
        data = calloc(large, 1);
        double latency = best(rank, 8, 1000, 20) / 2, transfer = best(rank, large, 10, 20) / 2;
        if (rank == 0)
            printf("%.4f %.1f\n", latency * 1e6, large / transfer / 1e6);
        free(data);
    }
    MPI_Finalize();
    return 0;
}
