@ The code of a Starter: execute the operands in a new process, and end
.arch armv6
.arm
   ldr r4,[sp]                    @ argc
   add r5,sp,#8                   @ argv + 1
   add r6,r5,r4,lsl #2            @ envp
   mov r7,#2                      @ fork
   svc #0
   cmp r0,#0
   bne 1f                         @ the first process ends
   ldr r0,[r5]
   mov r1,r5
   mov r2,r6
   mov r7,#11                     @ execve
   svc #0
   cmn r0,#2                      @ ENOENT: 127, else 126
   mov r0,#126
   addeq r0,r0,#1
   b 2f
1: mov r0,r0,asr #31              @ no process: 125, else 0
   and r0,r0,#125
2: mov r7,#248                    @ exit_group
   svc #0
