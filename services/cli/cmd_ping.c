/* cmd_ping.c - redoubt ping: does this very replica answer, or who does, and how fast. Health checks of containers run it. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "cli/ping.h"
#include "common/clock.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_MS 150 /* after the last answer nobody else is waited for */

struct pinged {
    struct ping_answer *answers;
    size_t n;
    int64_t asked_ns;
};

static void on_answer(void *ctx, const struct bus_msg *m)
{
    struct pinged *p = ctx;
    struct ping_answer a;
    if (ping_read(m->data, m->len, &a)) /* programs that are not of the suite answer $SRV.PING, too */
        return;
    a.us = (clock_mono_ns() - p->asked_ns) / 1000;
    struct ping_answer *bigger = realloc(p->answers, (p->n + 1) * sizeof *bigger);
    if (!bigger)
        return;
    p->answers = bigger;
    p->answers[p->n++] = a;
}

static int by_name(const void *a, const void *b)
{
    const struct ping_answer *x = a, *y = b;
    int d = strcmp(x->name, y->name);
    return d ? d : strcmp(x->id, y->id);
}

/* The file's line as a subject. -1 after saying what is wrong. */
static int subject_of_file(const struct cli *c, const char *path, char subject[static SUBJECT_MAX_LEN])
{
    char line[SUBJECT_MAX_LEN] = "";
    FILE *f = fopen(path, "re");
    if (!f && errno == ENOENT)
        return cli_fail(c, -1, "the service has not started: there is no %s yet", path);
    if (!f || !fgets(line, sizeof line, f)) {
        cli_fail(c, 0, "cannot read who to ask from %s: %s", path, f ? "it is empty" : strerror(errno));
        if (f)
            (void)fclose(f);
        return -1;
    }
    (void)fclose(f);
    if (ping_subject_of(line, subject))
        return cli_fail(c, -1, "%s does not name a service's replica; it is written by the service at its start",
                        path);
    return 0;
}

static void report(const struct cli *c, const struct pinged *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct ping_answer *a = &p->answers[i];
        term_print(&c->out, TERM_PLAIN, "%-20s %-32s %s  %" PRId64 ".%03" PRId64 " ms\n", a->name, a->id, a->version,
                   a->us / 1000, a->us % 1000);
    }
}

static int ask(struct cli *c, const char *subject, bool one)
{
    struct cli_link link;
    struct pinged p = {0};
    int code = cli_link_open_brief(&link, c);
    if (code == CLI_OK) {
        p.asked_ns = clock_mono_ns();
        cli_gather(&link, subject, one ? 0 : QUIET_MS, c->answer_ms, on_answer, &p);
        if (p.n == 0)
            code = cli_fail(c, CLI_FAILED, "nobody answers %s", subject);
    }
    if (p.n > 0)
        qsort(p.answers, p.n, sizeof *p.answers, by_name);
    report(c, &p);
    free(p.answers);
    cli_link_close(&link);
    return code;
}

int cmd_ping(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_ping *o = opts;
    const char *file = getenv("REDOUBT_INSTANCE_FILE");
    char subject[SUBJECT_MAX_LEN];
    bool own = argc == 0 && !o->instance && file && *file;
    if (own && subject_of_file(c, file, subject))
        return CLI_FAILED;
    if (!own && ping_subject(argc ? argv[0] : NULL, o->instance, subject))
        return cli_fail(c, CLI_USAGE, "found `%s` `%s`; allowed: a service, such as breaker, and one of its replicas",
                        argc ? argv[0] : "", o->instance ? o->instance : "");
    int code = ask(c, subject, own || o->instance);
    return code == CLI_OK || code == CLI_USAGE ? code : CLI_FAILED;
}
