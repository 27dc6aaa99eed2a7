/* alert_body_process.c - the process that runs one channel's template: no environment, no files, little memory, and time for each run. */
#include "alert/alert_body.h"
#include "alert/alert_template.h"
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#define INPUT_MAX (4 * ALERT_JSON_MAX)

/* The sanitizers' own memory is no measure of a program's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITED false
#else
#define LIMITED true
#endif

static void limit(int what, rlim_t to)
{
    (void)setrlimit((__rlimit_resource_t)what, &(struct rlimit){to, to});
}

/* What a program may not: outlive the service, read or write files, learn what the environment holds, take all memory. */
static void give_up_everything(void)
{
    static char *none[] = {NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    environ = none; /* libjq takes no environment at all for one that can be read */
    closefrom(3);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 0);
    if (LIMITED)
        limit(RLIMIT_DATA, (rlim_t)ALERT_BODY_MEMORY_MIB << 20);
}

/* Zero-terminated; NULL at the end of the input, or if it is none of ours. */
static char *read_one(size_t *ret_len)
{
    uint32_t n;
    if (fread(&n, sizeof n, 1, stdin) != 1 || n > INPUT_MAX)
        return NULL;
    char *text = malloc((size_t)n + 1);
    if (!text || fread(text, 1, n, stdin) != n) {
        free(text);
        return NULL;
    }
    text[n] = 0;
    *ret_len = n;
    return text;
}

static bool write_one(enum alert_body_answer kind, const char *text, size_t len)
{
    uint32_t n = (uint32_t)len;
    return putchar(kind) != EOF && fwrite(&n, sizeof n, 1, stdout) == 1 && fwrite(text, 1, len, stdout) == len &&
           fflush(stdout) == 0;
}

/* SIGPROF ends the process: libjq cannot be asked to stop. */
static void time_left(time_t seconds)
{
    (void)setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

int alert_body_process(void)
{
    size_t len;
    (void)signal(SIGPROF, SIG_DFL);
    give_up_everything();
    char *text = read_one(&len);
    if (!text)
        return 1;
    struct err wrong = {""};
    time_left(ALERT_BODY_CPU_S);
    struct alert_template *t = alert_template_new(text, &wrong);
    free(text);
    for (bool ok = true; ok && (text = read_one(&len)) != NULL; free(text)) {
        struct err e = wrong;
        size_t n = 0;
        bool json = false;
        time_left(ALERT_BODY_CPU_S);
        char *body = t ? alert_template_run(t, text, len, &n, &json, &e) : NULL;
        time_left(0);
        ok = body ? write_one(json ? ALERT_BODY_JSON : ALERT_BODY_TEXT, body, n)
                  : write_one(ALERT_BODY_WRONG, e.text, strlen(e.text));
        free(body);
    }
    alert_template_free(t);
    return 0;
}
