/* What the tests start as the ranks of a job: sums, large messages and a ring, all of them checked. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUMBERS = 1 << 20 };

static int rank, size;

static void check(int is_right, const char *what) {
    if (is_right)
        return;
    printf("rank %d: %s is wrong\n", rank, what);
    MPI_Abort(MPI_COMM_WORLD, 3);
}

static void sum_ranks(void) {
    int sum = 0;
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    check(sum == size * (size - 1) / 2, "the sum");
}

/* Large enough for what one process copies from another's memory. */
static void broadcast(void) {
    int *numbers = calloc(NUMBERS, sizeof *numbers), right = 1;
    for (int i = 0; rank == 0 && i < NUMBERS; i++)
        numbers[i] = 7 * i + 1;
    MPI_Bcast(numbers, NUMBERS, MPI_INT, 0, MPI_COMM_WORLD);
    for (int i = 0; i < NUMBERS; i++)
        right &= numbers[i] == 7 * i + 1;
    check(right, "the broadcast");
    free(numbers);
}

static void exchange(void) {
    const int count = 1 << 14;
    int *out = calloc(size * count, sizeof *out), *in = calloc(size * count, sizeof *in), right = 1;
    for (int i = 0; i < size * count; i++)
        out[i] = 1000 * rank + i / count;
    MPI_Alltoall(out, count, MPI_INT, in, count, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size * count; i++)
        right &= in[i] == 1000 * (i / count) + rank;
    check(right, "the exchange");
    free(out);
    free(in);
}

static void ring(void) {
    int token = rank == 0 ? 1 : 0, next = (rank + 1) % size, previous = (rank + size - 1) % size;
    if (size == 1)
        return;         /* MPICH's send waits for who receives */
    if (rank == 0)
        MPI_Send(&token, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
    MPI_Recv(&token, 1, MPI_INT, previous, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (rank != 0) {
        token++;
        MPI_Send(&token, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
    } else {
        check(token == size, "the ring");
    }
}

static void show(void) {
    char library[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(library, &length);
    for (char *end = library; *end; end++)
        if (*end == '\n')
            *end = ' ';
    printf("%d ranks, all right\nlibrary: %s\n", size, library);
}

int main(int count, char **words) {
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    sum_ranks();
    broadcast();
    exchange();
    ring();
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        show();
    MPI_Finalize();
    return count > 1 && rank == atoi(words[1]) ? 5 : 0;
}
