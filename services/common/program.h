/* program.h - runs a program without a shell: its own process group, a small environment, limits on time and output.
 *
 * Only programs that nobody but root and this process's user can change are run: program_ok(). */
#ifndef REDOUBT_PROGRAM_H
#define REDOUBT_PROGRAM_H

#include "common/loop.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False with the reason in why: no such file, not a program, or somebody else could put another in its place. */
bool program_ok(const char *path, char *why, size_t size);

struct program;
struct program_opts {
    const char *const *argv; /* NULL-terminated; argv[0] is an absolute path */
    const char *const *
        env; /* "NAME=value", NULL-terminated, besides PATH and LANG; may be NULL. Values may be secrets: never logged */
    const void *input; /* to its stdin, which need not be read; may be NULL */
    size_t input_len;
    int64_t timeout_ms; /* then the whole group is killed; 0 = never */
    size_t max_output;  /* of stdout that is kept; 0 = 64 KiB. Of stderr the last 2 KiB are */
    bool cut;           /* more than max_output is read and dropped, instead of PROGRAM_TOO_MUCH */
    bool merge;         /* stdout is taken as stderr: the end of both is kept, as it came */
    bool leave;         /* what it has started goes on after its own end; not after a time-out */
};
enum program_end {
    PROGRAM_EXITED,
    PROGRAM_SIGNALLED,
    PROGRAM_TIMEOUT,
    PROGRAM_NOT_STARTED,
    PROGRAM_TOO_MUCH,
    PROGRAM_CANCELLED
};
struct program_result { /* valid only inside the callback */
    enum program_end end;
    int code;        /* exit status, or number of the signal */
    const char *out; /* zero-terminated after out_len bytes */
    size_t out_len;
    const char *err;   /* the end of stderr, one line for people; "" if none */
    const char *first; /* the first line of stderr that is not empty, as it came, up to 255 bytes; "" if none */
    const char *text;  /* what came of it, one line: "ended with 3: no such thing" */
    int64_t took_ms;
};
typedef void (*program_done)(void *ctx, const struct program_result *r);
/* Everything in o is copied. done comes exactly once, later, on the loop. NULL only if memory is out (done does not come). */
struct program *program_run(struct loop *l, const struct program_opts *o, program_done done, void *ctx);
void program_cancel(struct program *p); /* kills the group; done comes with PROGRAM_CANCELLED. NULL is fine */
/* Its owner goes: done does not come any more. Kills the group, or lets it go on. NULL is fine. The loop must turn once after it. */
void program_drop(struct program *p, bool kill);
int program_pid(const struct program *p); /* 0 = it was not started */

#endif
