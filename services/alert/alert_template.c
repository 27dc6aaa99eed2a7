/* alert_template.c - jq programs by libjq: compiled with what is wrong in one line, run to one value. */
#include "alert/alert_template.h"
#include "alert/alert_text.h"
#include "common/conf_impl.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jq.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* The sanitizers' own memory is no measure of a program's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMITED false
#else
#define LIMITED true
#endif

struct alert_template {
    jq_state *jq;
    char *wrong; /* what the compiler has said first */
};

/* ---- a process for it ---- */

static void limit(int what, rlim_t to)
{
    (void)setrlimit((__rlimit_resource_t)what, &(struct rlimit){to, to});
}

void alert_template_confine(void)
{
    static char *none[] = {NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    environ = none; /* libjq takes no environment at all for one that can be read */
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 0); /* no more than are open */
    if (LIMITED)
        limit(RLIMIT_DATA, (rlim_t)ALERT_TEMPLATE_MEMORY_MIB << 20);
    (void)signal(SIGPROF, SIG_DFL);
}

/* SIGPROF ends the process: libjq cannot be asked to stop. */
void alert_template_time(int seconds)
{
    (void)setitimer(ITIMER_PROF, &(struct itimerval){.it_value.tv_sec = seconds}, NULL);
}

/* ---- programs ---- */

/* libjq takes every message for its own; the first one names the place, those behind it count. */
static void on_message(void *ctx, jv message)
{
    struct alert_template *t = ctx;
    if (!t->wrong && jv_get_kind(message) == JV_KIND_STRING)
        t->wrong = strdup(jv_string_value(message));
    jv_free(message);
}

/* "jq: error: syntax error, unexpected '}' (Unix shell quoting issues?) at <top-level>, line 1:\n{}}" in our words. */
static int say_wrong(const char *said, struct err *e)
{
    static const char *const noise[] = {"jq: error: ", " (Unix shell quoting issues?)", " at <top-level>", "jq: "};
    char text[ERR_TEXT_MAX], line[ERR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", said ? said : "it cannot be compiled");
    for (size_t i = 0; i < sizeof noise / sizeof *noise; i++) {
        char *at = strstr(text, noise[i]);
        if (at)
            memmove(at, at + strlen(noise[i]), strlen(at + strlen(noise[i])) + 1);
    }
    text[strcspn(text, "\n")] = 0;
    alert_text_clean(text, line, sizeof line);
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == ':')
        line[n - 1] = 0;
    return err_set(e, "%s", line);
}

/* Modules would be read from files: they stand before everything else in a program, if at all. */
static bool wants_modules(const char *p)
{
    static const char *const words[] = {"import", "include", "module"};
    for (;;) {
        p += strspn(p, " \t\r\n");
        if (*p != '#')
            break;
        p += strcspn(p, "\n");
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(p, words[i], n) == 0 && !isalnum((unsigned char)p[n]) && p[n] != '_' && p[n] != ':')
            return true;
    }
    return false;
}

/* There is one message, and no other input; what a program says aside is heard by nobody. */
static jv no_input(jq_state *jq, void *ctx)
{
    (void)jq;
    (void)ctx;
    return jv_invalid();
}

static void on_debug(void *ctx, jv value)
{
    (void)ctx;
    jv_free(value);
}

struct alert_template *alert_template_new(const char *program, struct err *e)
{
    struct alert_template *t = NULL;
    if (wants_modules(program)) {
        err_set(e, "modules are not there: put the whole program here");
        return NULL;
    }
    if (!(t = calloc(1, sizeof *t)) || !(t->jq = jq_init())) {
        free(t);
        err_set(e, "out of memory");
        return NULL;
    }
    jq_set_error_cb(t->jq, on_message, t);
    jq_set_input_cb(t->jq, no_input, NULL); /* libjq 1.6 would call whatever is there */
    jq_set_debug_cb(t->jq, on_debug, NULL);
    if (!jq_compile(t->jq, program)) {
        (void)say_wrong(t->wrong, e);
        alert_template_free(t);
        return NULL;
    }
    return t;
}

void alert_template_free(struct alert_template *t)
{
    if (!t)
        return;
    jq_teardown(&t->jq);
    free(t->wrong);
    free(t);
}

/* Takes the value. */
static char *body_of(jv value, size_t *ret_len, bool *ret_json, struct err *e)
{
    bool json = jv_get_kind(value) != JV_KIND_STRING;
    jv text = json ? jv_dump_string(value, 0) : value;
    size_t len = (size_t)jv_string_length_bytes(jv_copy(text));
    char *body = NULL;
    if (len > ALERT_TEMPLATE_OUT_MAX)
        err_set(e, "it gives %zu bytes, and at most %d are sent", len, ALERT_TEMPLATE_OUT_MAX);
    else if (!(body = malloc(len + 1)))
        err_set(e, "out of memory");
    if (body) {
        memcpy(body, jv_string_value(text), len);
        body[len] = 0;
        *ret_len = len;
        *ret_json = json;
    }
    jv_free(text);
    return body;
}

/* What an invalid value says: an error with its message, or only that there is no more. Takes it. */
static bool is_error(jv value, struct err *e)
{
    if (!jv_invalid_has_msg(jv_copy(value))) {
        jv_free(value);
        return false;
    }
    jv message = jv_invalid_get_msg(value);
    jv text = jv_get_kind(message) == JV_KIND_STRING ? message : jv_dump_string(message, 0);
    char line[300];
    err_set(e, "it fails: %s", alert_text_clean(jv_string_value(text), line, sizeof line));
    jv_free(text);
    return true;
}

char *alert_template_run(struct alert_template *t, const char *json, size_t len, size_t *ret_len, bool *ret_json,
                         struct err *e)
{
    jv input = jv_parse_sized(json, (int)len);
    if (!jv_is_valid(input)) {
        jv_free(input);
        err_set(e, "the message is no JSON");
        return NULL;
    }
    jq_start(t->jq, input, 0);
    jv first = jq_next(t->jq);
    if (!jv_is_valid(first)) {
        if (!is_error(first, e))
            err_set(e, jq_halted(t->jq) ? "it halts" : "it gives no value");
        return NULL;
    }
    jv second = jq_next(t->jq);
    bool more = jv_is_valid(second), failed = false;
    if (more) {
        err_set(e, "it gives more than one value: put them into one text or list");
        jv_free(second);
    } else {
        failed = is_error(second, e);
    }
    if (!more && !failed && jv_get_kind(first) == JV_KIND_NULL) {
        err_set(e, "it gives null");
        failed = true;
    }
    if (more || failed) {
        jv_free(first);
        return NULL;
    }
    return body_of(first, ret_len, ret_json, e);
}

/* ---- the check of settings ---- */

/* One byte, '+' or '-', and the reason. */
static void try_here(const char *program, int to)
{
    char answer[1 + ERR_TEXT_MAX];
    struct err e = {""};
    alert_template_confine();
    alert_template_time(ALERT_TEMPLATE_CPU_S);
    bool good = alert_template_new(program, &e) != NULL;
    int n = snprintf(answer, sizeof answer, "%c%s", good ? '+' : '-', e.text);
    _exit(write(to, answer, (size_t)n) == n ? 0 : 1);
}

int alert_template_try(const char *program, struct err *e)
{
    int fds[2], status = 0;
    char answer[1 + ERR_TEXT_MAX] = "";
    size_t n = 0;
    ssize_t got;
    if (pipe2(fds, O_CLOEXEC))
        return err_set(e, "cannot be tried: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0)
        try_here(program, fds[1]);
    close(fds[1]);
    while (child > 0 && n < sizeof answer - 1 &&
           ((got = read(fds[0], answer + n, sizeof answer - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        n += got > 0 ? (size_t)got : 0;
    close(fds[0]);
    answer[n] = 0;
    if (child < 0)
        return err_set(e, "cannot be tried: %s", strerror(errno));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (*answer == '+')
        return 0;
    if (*answer == '-')
        return err_set(e, "%s", answer + 1);
    return err_set(e, "libjq ended while it compiled it: signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

bool alert_template_check(const struct settings *s, struct conf_report *r)
{
    bool good = true;
    for (size_t i = 0; i < s->alert.channels.n; i++) {
        const struct set_channel *c = CONF_AT(s->alert.channels, struct set_channel, i);
        struct err e = {""};
        if (!*c->template)
            continue;
        if (alert_template_try(c->template, &e) == 0)
            continue;
        char *line = NULL;
        good = false;
        if (asprintf(&line, "alert.channels[%zu].template: no jq program that can be run (channel %s): %s", i,
                     c->name, e.text) >= 0)
            conf_report_add(r, line);
    }
    return good;
}
