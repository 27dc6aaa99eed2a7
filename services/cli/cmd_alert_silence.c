/* cmd_alert_silence.c - redoubt alert silence, unsilence, silences: what is not to be heard of for a time. */
#include "cli/alert_ask.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "common/matcher.h"
#include <stdlib.h>
#include <string.h>

#define PROBLEMS_MAX 1000000

/* "2026-01-31T09:05", with or without seconds and Z: UTC. -1 if it is none. */
static int64_t time_of(const char *text)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%MZ",
                                        "%Y-%m-%dT%H:%M"};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (end && *end == 0)
            return (int64_t)timegm(&tm) * 1000;
    }
    return -1;
}

/* Which of the present problems it would mute. */
static int preview(struct cli_link *k, const struct matchers *m, const struct term *t)
{
    static const struct term_column columns[] = {
        {"SEVERITY", false}, {"STATE", false}, {"PROBLEM", false}, {"SUMMARY", false}};
    struct alert_problems list = {0};
    char text[600];
    int code = alert_ask_all(k, false, PROBLEMS_MAX, &list);
    size_t n = 0;
    struct term_table *tab = NULL;
    for (size_t i = 0; code == CLI_OK && i < list.n; i++) {
        const PB(ProblemChanged) *p = list.at[i];
        if (!matchers_fit(m, p->alert))
            continue;
        n++;
        tab = tab ? tab : term_table_begin(columns, 4);
        term_cell(tab, TERM_PLAIN, "%s", EVENT_NAME(severity, p->alert->severity));
        term_cell(tab, TERM_PLAIN, "%s", EVENT_NAME(problem_state, p->state));
        term_cell(tab, TERM_BOLD, "%s", term_clean(p->alert->dedup_key, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(p->alert->summary, 60, text, sizeof text));
    }
    if (tab)
        term_table_end(tab, t, "");
    if (code == CLI_OK)
        printf("it would mute %zu of %zu problems; nothing was done\n", n, list.n);
    alert_problems_free(&list);
    return code;
}

int cmd_alert_silence(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_silence *o = opts;
    struct err e = {""};
    int64_t from = o->from ? time_of(o->from) : 0;
    if (!o->dry_run && (!o->by || !o->reason))
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    if (!o->dry_run && o->for_ms == 0)
        return cli_fail(c, CLI_USAGE, "--for TIME is required: a silence always has an end");
    if (from < 0)
        return cli_fail(c, CLI_USAGE, "--from: `%s` is no time as 2026-01-31T09:05 (UTC)", o->from);
    struct matchers *m = matchers_new((const char *const *)argv, (size_t)argc, &e);
    if (!m)
        return cli_fail(c, CLI_USAGE, "%s", e.text);
    PB(AlertCommand) order = REDOUBT__V1__ALERT_COMMAND__INIT;
    PB(Silence) *s = NULL;
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && o->dry_run) {
        code = preview(&link, m, &c->out);
    } else if (code == CLI_OK) {
        order.matchers = argv;
        order.n_matchers = (size_t)argc;
        order.by = (char *)o->by;
        order.reason = (char *)o->reason;
        order.duration_ms = (uint64_t)o->for_ms;
        order.starts_unix_ms = from;
        s = alert_ask(&link, "silence", &order, PB_DESC(silence), &code);
    }
    if (s && o->json) {
        alert_print_json(s);
    } else if (s) {
        char starts[EVENT_TIME_MAX], ends[EVENT_TIME_MAX];
        int64_t now = clock_wall_ms();
        printf("silence %s holds from %s until %s; `redoubt alert unsilence %s` ends it before\n", s->id,
               event_time(s->starts_unix_ms, now, starts), event_time(s->ends_unix_ms, now, ends), s->id);
    }
    wire_free(s);
    matchers_free(m);
    cli_link_close(&link);
    return code;
}

int cmd_alert_unsilence(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    m.silence = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    return cli_give(c, "alert", "unsilence", &m);
}

static void print_silences(const PB(SilenceList) * l, const struct term *t)
{
    static const struct term_column columns[] = {{"ID", false}, {"FROM", false},     {"UNTIL", false},
                                                 {"BY", false}, {"MATCHERS", false}, {"REASON", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], text[1100], all[1100];
    if (l->n_silences == 0) {
        printf("no silences\n");
        return;
    }
    struct term_table *tab = term_table_begin(columns, 6);
    for (size_t i = 0; i < l->n_silences; i++) {
        const PB(Silence) *s = l->silences[i];
        all[0] = 0;
        for (size_t k = 0, n = 0; k < s->n_matchers && n < sizeof all; k++)
            n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", k ? " " : "", s->matchers[k]);
        term_cell(tab, TERM_BOLD, "%s", s->id);
        term_cell(tab, s->starts_unix_ms > now ? TERM_DIM : TERM_PLAIN, "%s", event_time(s->starts_unix_ms, now, at));
        term_cell(tab, TERM_PLAIN, "%s", event_time(s->ends_unix_ms, now, at));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(s->by, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(all, 80, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(s->reason, 60, text, sizeof text));
    }
    term_table_end(tab, t, "");
}

int cmd_alert_silences(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct opts_show *o = opts;
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    m.limit = 1000; /* a message of zeroes would be no message */
    struct cli_link link;
    int code = cli_link_open(&link, c);
    PB(SilenceList) *l = code == CLI_OK ? alert_ask(&link, "silences", &m, PB_DESC(silence_list), &code) : NULL;
    if (l && o->json)
        alert_print_json(l);
    else if (l)
        print_silences(l, &c->out);
    wire_free(l);
    cli_link_close(&link);
    return code;
}
