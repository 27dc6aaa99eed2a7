/* harness.h - real programs for tests and benches: started on free loopback ports in a private directory, killed, restarted,
 * and gone at the end, even if the test is killed (parent-death signal for programs, a watcher for the directory).
 *
 * Include it as "../harness.h". Whatever the harness cannot do ends the test with a text on stderr: no errors to check.
 * KEEP=1 in the environment leaves the directory, with the programs' output in NAME.log. */
#ifndef REDOUBT_TESTS_HARNESS_H
#define REDOUBT_TESTS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The generous limit for whatever must happen soon; what is sanitised is several times slower. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HARNESS_WAIT_MS 30000
#else
#define HARNESS_WAIT_MS 10000
#endif

struct harness;
struct harness *harness_open(void);
/* Kills what still runs and removes the directory. NULL is fine. */
void harness_close(struct harness *h);
const char *harness_dir(const struct harness *h);
/* A port of 127.0.0.1 that nobody uses, outside of the range that the kernel takes for outgoing connections. */
int harness_free_port(void);
/* "localhost", for tests of looking up names; its address where this machine does not know the name (no /etc/hosts). */
const char *harness_localhost(void);

/* Owned by the harness. Read its fields, leave them alone. */
struct harness_proc {
    const char *name; /* also of its log and its data directory */
    char url[64];     /* nats://127.0.0.1:PORT, redis://... */
    char data[512];   /* its directory */
    int port;         /* 0 = none */
    pid_t pid;        /* 0 while it does not run */
    struct harness *h;
    struct harness_proc *next;
    char **argv;
};

/* nats-server with JetStream; `conf` is added to its configuration file (NULL = nothing). Answers when this returns. */
struct harness_proc *harness_nats(struct harness *h, const char *name, const char *conf);
/* redis-server without persistence; `args` are added to its command line (NULL-terminated; NULL = nothing). */
struct harness_proc *harness_redis(struct harness *h, const char *name, const char *const *args);
/* Any program (argv[0] is looked up in PATH), NULL-terminated argv. With a port > 0, waits until it is open. */
struct harness_proc *harness_run(struct harness *h, const char *name, int port, const char *const *argv);
/* The same, but not started yet: harness_start() does it later, on the same port. */
struct harness_proc *harness_nats_later(struct harness *h, const char *name, const char *conf);
struct harness_proc *harness_redis_later(struct harness *h, const char *name, const char *const *args);
struct harness_proc *harness_run_later(struct harness *h, const char *name, int port, const char *const *argv);

/* Starts one that does not run, on its port with its data, and waits until the port is open. */
void harness_start(struct harness_proc *p);
void harness_kill(struct harness_proc *p); /* SIGKILL, waits for the end; nothing if it does not run */
int harness_stop(struct harness_proc *p);  /* SIGTERM, waits (then SIGKILL); returns its exit status, -1 if killed */
void harness_freeze(struct harness_proc *p); /* SIGSTOP: connections stay, nothing answers */
void harness_thaw(struct harness_proc *p);
/* Removes its data; only while it does not run. */
void harness_forget(struct harness_proc *p);
/* True while it runs; an end on its own is noticed here. */
bool harness_alive(struct harness_proc *p);

/* Asks every few ms until fn says true; false after timeout_ms. For tests without a loop. */
bool harness_until(bool (*fn)(void *ctx), void *ctx, int64_t timeout_ms);

#endif
