# The code of a Starter: execute the operands in a new process, and end
.intel_syntax noprefix
   mov ecx,[esp]                  # argc
   lea esi,[esp+8]                # argv + 1
   lea edx,[esp+ecx*4+8]          # envp
   mov eax,2                      # fork
   int 0x80
   test eax,eax
   jnz 1f                         # the first process ends
   mov ebx,[esi]
   mov ecx,esi
   mov eax,11                     # execve
   int 0x80
   xor ebx,ebx
   cmp eax,-2                     # ENOENT: 127, else 126
   sete bl
   add ebx,126
   jmp 2f
1: sar eax,31                     # no process: 125, else 0
   and eax,125
   mov ebx,eax
2: mov eax,252                    # exit_group
   int 0x80
