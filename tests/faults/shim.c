/* Lets the k-th system call that changes files below a folder fail, or kill the process.

   A seccomp filter turns those calls into SIGSYS; the handler counts them, and makes them itself, with a
   mark in the sixth argument that the filter lets through. So every call is seen, whoever makes it: Python,
   Rust, C++, and stdio inside of libc, which LD_PRELOAD alone cannot see. A process that is started by exec
   keeps the filter; LD_PRELOAD gives it the handler again, and FAULTS_STATE the counter that all share.

   fsync is counted and can fail, but is not made: what dies here is a process, and not the machine. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define MARK 0x0fa17 /* sixth argument of the calls that the handler makes */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define NUMBER(c) ((c)->uc_mcontext.gregs[REG_RAX])
#define RESULT(c) ((c)->uc_mcontext.gregs[REG_RAX])
#define ARGUMENTS(c) {(c)->uc_mcontext.gregs[REG_RDI], (c)->uc_mcontext.gregs[REG_RSI], \
  (c)->uc_mcontext.gregs[REG_RDX], (c)->uc_mcontext.gregs[REG_R10], (c)->uc_mcontext.gregs[REG_R8]}
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define NUMBER(c) ((long)(c)->uc_mcontext.regs[8])
#define RESULT(c) ((c)->uc_mcontext.regs[0])
#define ARGUMENTS(c) {(c)->uc_mcontext.regs[0], (c)->uc_mcontext.regs[1], (c)->uc_mcontext.regs[2], \
  (c)->uc_mcontext.regs[3], (c)->uc_mcontext.regs[4]}
#else
#error "x86_64 or aarch64"
#endif

enum { COUNT, KILL, FULL, BROKEN };           /* what happens at the k-th call */
enum { ROOM = 1, WRITES = 2, SYNC = 4, OPENS = 8, TWO = 16 }; /* what a call is like */

struct state {
  int count, k, action, torn;
  size_t length;
  char folder[PATH_MAX];
};
static struct state *shared;

/* How a call names its file: by descriptor, by path, or by folder and path; -1: not so. TWO: it names another. */
static const struct call {
  int number, flags;
  signed char descriptor, folder, path, folder2, path2;
} CALLS[] = {
    {SYS_openat, ROOM | OPENS, -1, 0, 1, -1, -1},
    {SYS_write, ROOM | WRITES, 0, -1, -1, -1, -1},
    {SYS_writev, ROOM, 0, -1, -1, -1, -1},
    {SYS_pwrite64, ROOM | WRITES, 0, -1, -1, -1, -1},
    {SYS_pwritev, ROOM, 0, -1, -1, -1, -1},
    {SYS_sendfile, ROOM, 0, -1, -1, -1, -1},
    {SYS_ftruncate, ROOM, 0, -1, -1, -1, -1},
    {SYS_fallocate, ROOM, 0, -1, -1, -1, -1},
    {SYS_fsync, ROOM | SYNC, 0, -1, -1, -1, -1},
    {SYS_fdatasync, ROOM | SYNC, 0, -1, -1, -1, -1},
    {SYS_fchmod, 0, 0, -1, -1, -1, -1},
    {SYS_fchmodat, 0, -1, 0, 1, -1, -1},
    {SYS_truncate, ROOM, -1, -1, 0, -1, -1},
    {SYS_mkdirat, ROOM, -1, 0, 1, -1, -1},
    {SYS_unlinkat, 0, -1, 0, 1, -1, -1},
    {SYS_renameat2, ROOM | TWO, -1, 0, 1, 2, 3},
    {SYS_linkat, ROOM | TWO, -1, 0, 1, 2, 3},
    {SYS_symlinkat, ROOM, -1, 1, 2, -1, -1},
#ifdef SYS_renameat
    {SYS_renameat, ROOM | TWO, -1, 0, 1, 2, 3},
#endif
#ifdef SYS_open
    {SYS_open, ROOM | OPENS, -1, -1, 0, -1, -1},
    {SYS_creat, ROOM, -1, -1, 0, -1, -1},
    {SYS_mkdir, ROOM, -1, -1, 0, -1, -1},
    {SYS_rmdir, 0, -1, -1, 0, -1, -1},
    {SYS_unlink, 0, -1, -1, 0, -1, -1},
    {SYS_rename, ROOM | TWO, -1, -1, 0, -1, 1},
    {SYS_link, ROOM | TWO, -1, -1, 0, -1, 1},
    {SYS_symlink, ROOM, -1, -1, 1, -1, -1},
    {SYS_chmod, 0, -1, -1, 0, -1, -1},
#endif
};
enum { N_CALLS = sizeof CALLS / sizeof *CALLS };

static long raw(long number, const long a[5]) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = MARK;
  __asm__ volatile("syscall" : "=a"(result)
                   : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a[0], x1 __asm__("x1") = a[1];
  register long x2 __asm__("x2") = a[2], x3 __asm__("x3") = a[3], x4 __asm__("x4") = a[4];
  register long x5 __asm__("x5") = MARK;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#endif
}

/* Where a descriptor (or the working folder) lies: its length, 0 where it has no path. */
static size_t place_of(int descriptor, char *out) {
  char link[40] = "/proc/self/cwd";
  if (descriptor != AT_FDCWD) {
    char digits[12];
    int n = 0, i = 14;
    if (descriptor < 0) return 0;
    memcpy(link, "/proc/self/fd/", 14);
    do digits[n++] = '0' + descriptor % 10; while (descriptor /= 10);
    while (n) link[i++] = digits[--n];
    link[i] = 0;
  }
  const long a[5] = {AT_FDCWD, (long)link, (long)out, PATH_MAX - 1, 0};
  long length = raw(SYS_readlinkat, a);
  if (length < 0) length = 0;
  out[length] = 0;
  return length;
}

static int below(const char *path) {
  return !strncmp(path, shared->folder, shared->length) && (!path[shared->length] || path[shared->length] == '/');
}

static int named_below(int folder, const char *path) {
  if (path[0] == '/') return below(path);
  char whole[PATH_MAX];
  size_t length = place_of(folder, whole), more = strlen(path);
  if (!length || length + more + 2 > PATH_MAX) return 0;
  whole[length] = '/';
  memcpy(whole + length + 1, path, more + 1);
  return below(whole);
}

static int concerns(const struct call *call, const long a[5]) {
  char path[PATH_MAX];
  if (call->descriptor >= 0) return place_of((int)a[call->descriptor], path) && below(path);
  if (named_below(call->folder < 0 ? AT_FDCWD : (int)a[call->folder], (const char *)a[call->path])) return 1;
  if (!(call->flags & TWO)) return 0;
  return named_below(call->folder2 < 0 ? AT_FDCWD : (int)a[call->folder2], (const char *)a[call->path2]);
}

/* A write that is cut off in the middle. */
static long half(const struct call *call, long number, const long a[5]) {
  if (!(call->flags & WRITES) || a[2] < 2) return 0;
  const long part[5] = {a[0], a[1], a[2] / 2, a[3], a[4]};
  return raw(number, part);
}

static long carried_out(const struct call *call, long number, const long a[5]) {
  int seen = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
  if (shared->action == KILL && seen == shared->k) {
    half(call, number, a);
    const long self[5] = {getpid(), SIGKILL, 0, 0, 0};
    raw(SYS_kill, self);
  }
  /* A disk that is full stays full; the first write still gets half of its bytes in. */
  if (shared->action == FULL && seen >= shared->k && call->flags & ROOM) {
    long wrote = shared->torn++ ? 0 : half(call, number, a);
    return wrote > 0 ? wrote : -ENOSPC;
  }
  if (shared->action == BROKEN && seen == shared->k) return -EIO;
  return call->flags & SYNC ? 0 : raw(number, a);
}

static void on_call(int signal, siginfo_t *info, void *context_) {
  (void)signal, (void)info;
  ucontext_t *context = context_;
  const long a[5] = ARGUMENTS(context), number = NUMBER(context);
  int before = errno;
  const struct call *call = CALLS;
  while (call->number != number) call++;
  RESULT(context) = shared && shared->k && concerns(call, a) ? carried_out(call, number, a) : raw(number, a);
  errno = before;
}

static int attach(const char *file) {
  /* Not open(): after exec the filter is here already, and the handler is not. */
  const long a[5] = {AT_FDCWD, (long)file, O_RDWR | O_CLOEXEC, 0, 0};
  int descriptor = raw(SYS_openat, a);
  if (descriptor < 0) return errno = -descriptor, -1;
  void *memory = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  close(descriptor);
  if (memory == MAP_FAILED) return -1;
  shared = memory;
  struct sigaction action = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART};
  return sigaction(SIGSYS, &action, NULL);
}

#define AT(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define END(what) BPF_STMT(BPF_RET | BPF_K, (what))

static int filter_calls(void) {
  const unsigned changes = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC;
  struct sock_filter code[4 * N_CALLS + 16];
  unsigned short n = 0;
#define ADD(...) code[n++] = (struct sock_filter)__VA_ARGS__
  ADD(AT(arch));
  ADD(EQUAL(ARCH, 1, 0));
  ADD(END(SECCOMP_RET_ALLOW));
  ADD(AT(args[5]));
  ADD(EQUAL(MARK, 0, 1));
  ADD(END(SECCOMP_RET_ALLOW));
  ADD(AT(nr));
  /* Its sixth argument must be 0, so it cannot be marked: callers fall back to sendfile. */
  ADD(EQUAL(SYS_copy_file_range, 0, 1));
  ADD(END(SECCOMP_RET_ERRNO | ENOSYS));
  for (int i = 0; i < N_CALLS; i++) {
    if (CALLS[i].flags & OPENS) {
      ADD(EQUAL((unsigned)CALLS[i].number, 0, 4));
      if (CALLS[i].folder < 0) ADD(AT(args[1]));
      else ADD(AT(args[2]));
      ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, changes, 0, 1));
      ADD(END(SECCOMP_RET_TRAP));
      ADD(END(SECCOMP_RET_ALLOW));
    } else {
      ADD(EQUAL((unsigned)CALLS[i].number, 0, 1));
      ADD(END(SECCOMP_RET_TRAP));
    }
  }
  ADD(END(SECCOMP_RET_ALLOW));
  struct sock_fprog program = {n, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) ? -1 : 0;
}

/* A file of this many bytes is what faults_arm takes. */
size_t faults_size(void) { return sizeof(struct state); }

/* From here on, for good, and in the processes that this one starts; `folder` without links. 0, or errno. */
int faults_arm(const char *file, const char *folder, int k, int action) {
  if (strlen(folder) >= PATH_MAX || attach(file)) return errno ? errno : ENAMETOOLONG;
  shared->count = shared->torn = 0;
  shared->length = strlen(folder);
  strcpy(shared->folder, folder);
  shared->action = action;
  shared->k = k;
  errno = EAGAIN;
  return filter_calls() ? errno : 0;
}

/* How many calls there were, by what arm was given. */
int faults_count(const char *file) {
  struct state state;
  int descriptor = open(file, O_RDONLY | O_CLOEXEC);
  long n = read(descriptor, &state, sizeof state);
  close(descriptor);
  return n == sizeof state ? state.count : -1;
}

__attribute__((constructor)) static void inherit(void) {
  const char *file = getenv("FAULTS_STATE");
  if (file) attach(file);
}
