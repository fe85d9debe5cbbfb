# The code of a Starter: execute the operands in a new process, and end
.intel_syntax noprefix
   mov rcx,[rsp]                  # argc
   lea rsi,[rsp+16]               # argv + 1
   lea rdx,[rsp+rcx*8+16]         # envp
   mov rdi,[rsi]
   push rsi                       # kept over the call
   push rdi
   mov eax,57                     # fork
   syscall
   pop rdi
   pop rsi
   test eax,eax
   jnz 1f                         # the first process ends
   mov eax,59                     # execve
   syscall
   cmp eax,-2                     # ENOENT: 127, else 126
   sete dil
   movzx edi,dil
   add edi,126
   jmp 2f
1: sar eax,31                     # no process: 125, else 0
   and eax,125
   mov edi,eax
2: mov eax,231                    # exit_group
   syscall
