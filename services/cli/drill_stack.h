/* drill_stack.h - a private suite for a drill: directory, ports, processes, logs; nothing of it outlives the drill unless
 * it is to be kept. */
#ifndef REDOUBT_CLI_DRILL_STACK_H
#define REDOUBT_CLI_DRILL_STACK_H

#include "common/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DRILL_PROCS_MAX 24
#define DRILL_ARGS_MAX  16
#define DRILL_PORTS_MAX 32
#define DRILL_PATH      512

struct drill_proc {
    const char *name;
    char *argv[DRILL_ARGS_MAX + 1];
    int port;       /* where it will listen; 0 = nowhere */
    pid_t pid;      /* 0 = does not run */
    bool may_end;   /* it was told to: its end is no surprise */
    bool again;     /* started again whenever it ends, until it is told to end */
    long log_from;  /* size of its log when drill_stack_note_logs() was called */
    bool ended;     /* and `status` says how */
    int status;     /* of waitpid */
    int64_t end_ms; /* monotonic: when the end was seen */
};
struct drill_stack {
    char dir[DRILL_PATH]; /* below it: log/, data/, nats/, redis/, redoubt.yaml, pids */
    char bin[DRILL_PATH]; /* where the services are */
    bool keep;            /* processes and directory stay when the drill ends */
    struct drill_proc procs[DRILL_PROCS_MAX];
    size_t n;
    int reserved[DRILL_PORTS_MAX]; /* sockets that hold the ports given out */
    size_t n_reserved;
    int janitor_fd;
    pid_t janitor;
};
/* Makes the directory below $TMPDIR and, unless kept, a janitor that removes it should the drill be killed. bin_dir NULL =
 * where this program is. Must be called before the process has threads. 0 or -1. */
int drill_stack_open(struct drill_stack *s, const char *bin_dir, bool keep, struct err *e);
/* A loopback port that is free, outside of what the kernel gives to outgoing connections, and that no other drill is given until
 * this one is closed: a server that is killed and started again must find it free. -1 if there is none. */
int drill_stack_port(struct drill_stack *s);
/* Path of the running program: for simulators, and for telling people what to type. 0 or -1. */
int drill_stack_self(char *buf, size_t size, struct err *e);
/* Writes a file below the directory. 0 or -1. */
int drill_stack_write(const struct drill_stack *s, const char *name, const char *text, struct err *e);
/* Defines a process; argv is copied. A program (argv[0]) without a slash is looked for in bin, then in PATH and the sbin
 * directories. NULL on error. */
struct drill_proc *drill_stack_define(struct drill_stack *s, const char *name, int port, const char *const *argv,
                                      struct err *e);
#define DRILL_ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})
struct drill_proc *drill_stack_proc(struct drill_stack *s, const char *name); /* asserts that it is defined */
int drill_stack_spawn(struct drill_stack *s, struct drill_proc *p, struct err *e);
void drill_stack_signal(struct drill_proc *p, int signum); /* its end is then no surprise */
/* The same for a signal that does not end it. */
void drill_stack_tell(struct drill_proc *p, int signum);
/* Collects what has ended, and starts again what is to be. The first process that ended unasked, or NULL. */
struct drill_proc *drill_stack_reap(struct drill_stack *s);
bool drill_stack_listening(const struct drill_proc *p);
/* Last lines of its log, malloc'ed, at most `lines`; NULL if there is none. */
char *drill_stack_tail(const struct drill_stack *s, const char *name, size_t lines);
/* Logs are looked at from here on; and whether one holds a text since then. */
void drill_stack_note_logs(struct drill_stack *s);
bool drill_stack_log_has(const struct drill_stack *s, const struct drill_proc *p, const char *text);
/* "exit 0", "killed by signal 9". Returns buf. */
const char *drill_stack_end_text(const struct drill_proc *p, char *buf, size_t size);
/* Kills what runs, removes the directory, dismisses the janitor; with keep it only frees the memory. */
void drill_stack_close(struct drill_stack *s);

/* Ends a kept stack by its directory: services first, servers last. How many processes were ended, -1 = no such stack. */
int drill_stack_stop(const char *dir, struct err *e);
/* Restarts a process of a stack whose drill starts it again: SIGTERM, then waits until another one runs. 0 or -1. */
int drill_stack_restart(const char *dir, const char *name, struct err *e);

#endif
