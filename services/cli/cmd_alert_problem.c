/* cmd_alert_problem.c - redoubt alert list, show, ack, unack: what is wrong now, who was told of it, and who has taken it on. */
#include "cli/alert_ask.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "cli/status_view.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ST(name) REDOUBT__V1__PROBLEM_STATE__PROBLEM_STATE_##name

static enum term_colour colour_of(const PB(ProblemChanged) * p)
{
    switch (p->state) {
    case ST(RESOLVED):
        return TERM_GREEN;
    case ST(ACKNOWLEDGED):
    case ST(MUTED):
        return TERM_CYAN;
    default:
        return p->alert->severity >= REDOUBT__V1__SEVERITY__SEVERITY_HIGH ? TERM_RED : TERM_YELLOW;
    }
}

/* "eve until 12:03:04.000Z", "silence/s1", or "" */
static const char *by_whom(const PB(ProblemChanged) * p, int64_t now, char *buf, size_t size)
{
    char until[EVENT_TIME_MAX];
    if (p->state == ST(ACKNOWLEDGED))
        snprintf(buf, size, "%s until %s", p->acked_by, event_time(p->acked_until_unix_ms, now, until));
    else
        snprintf(buf, size, "%s", p->muted_by);
    return buf;
}

static const char *ago(int64_t unix_ms, int64_t now, char *buf, size_t size)
{
    if (unix_ms == 0)
        snprintf(buf, size, "never");
    else
        cli_span(now > unix_ms ? now - unix_ms : 0, buf, size);
    return buf;
}

/* ---- list ---- */

static void print_list(const struct alert_problems *list, const struct term *t, bool all)
{
    static const struct term_column columns[] = {{"SEVERITY", false}, {"STATE", false},   {"AGE", true},
                                                 {"PROBLEM", false},  {"SUMMARY", false}, {"TOLD", true},
                                                 {"BY", false}};
    int64_t now = clock_wall_ms();
    char span[32], text[600], who[256];
    if (list->n == 0) {
        printf("%s\n", all ? "no problems are known" : "no problems");
        return;
    }
    struct term_table *tab = term_table_begin(columns, 7);
    for (size_t i = 0; i < list->n; i++) {
        const PB(ProblemChanged) *p = list->at[i];
        term_cell(tab, colour_of(p), "%s", EVENT_NAME(severity, p->alert->severity));
        term_cell(tab, TERM_PLAIN, "%s", EVENT_NAME(problem_state, p->state));
        term_cell(tab, TERM_PLAIN, "%s", ago(p->first_unix_ms, now, span, sizeof span));
        term_cell(tab, TERM_BOLD, "%s", term_clean(p->alert->dedup_key, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(p->alert->summary, 60, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", ago(p->told_unix_ms, now, span, sizeof span));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(by_whom(p, now, who, sizeof who), 0, text, sizeof text));
    }
    term_table_end(tab, t, "");
    if (list->total > list->n)
        printf("%" PRIu64 " more: -n N shows as many\n", list->total - list->n);
}

int cmd_alert_list(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct opts_alert_list *o = opts;
    struct alert_problems list = {0};
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = alert_ask_all(&link, o->all, (size_t)o->count, &list);
    if (code == CLI_OK && o->json) {
        PB(ProblemList) l = REDOUBT__V1__PROBLEM_LIST__INIT;
        l.problems = list.at;
        l.n_problems = list.n;
        l.total = (uint32_t)list.total;
        alert_print_json(&l);
    } else if (code == CLI_OK) {
        print_list(&list, &c->out, o->all);
    }
    alert_problems_free(&list);
    cli_link_close(&link);
    return code;
}

/* ---- show ---- */

static void line(const char *what, const char *text)
{
    char clean[8400];
    if (*text)
        printf("%-14s %s\n", what, term_clean(text, 0, clean, sizeof clean));
}

static void print_problem(const PB(ProblemChanged) * p, const struct term *t)
{
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], span[32], text[1400], clean[1400];
    const PB(Alert) *a = p->alert;
    term_print(t, colour_of(p), "%s %s", EVENT_NAME(severity, a->severity), EVENT_NAME(problem_state, p->state));
    printf("  %s\n", term_clean(a->summary, 0, text, sizeof text));
    line("problem", a->dedup_key);
    line("id", p->id);
    line("detail", a->detail);
    line("source", a->source);
    line("agent", a->agent);
    line("target", a->target);
    for (size_t i = 0; i < a->n_labels; i++) {
        snprintf(text, sizeof text, "%s=%s", a->labels[i]->key, a->labels[i]->value);
        line(i ? "" : "labels", text);
    }
    for (size_t i = 0; i < a->n_actions_taken; i++)
        line(i ? "" : "done already", a->actions_taken[i]);
    if (a->manual_intervention_required)
        line("", "a person must act");
    printf("%-14s %s, for %s\n", "since", event_time(p->first_unix_ms, now, at),
           ago(p->first_unix_ms, p->state == ST(RESOLVED) ? p->changed_unix_ms : now, span, sizeof span));
    if (p->state == ST(RESOLVED))
        printf("%-14s %s\n", "over since", event_time(p->changed_unix_ms, now, at));
    if (p->told_unix_ms)
        printf("%-14s %s, %u alerts since\n", "told", event_time(p->told_unix_ms, now, at), p->repeats);
    else
        printf("%-14s never, %u alerts so far\n", "told", p->repeats + 1);
    if (*p->acked_by) {
        snprintf(text, sizeof text, "%s until %s%s: %s", p->acked_by, event_time(p->acked_until_unix_ms, now, at),
                 p->state == ST(ACKNOWLEDGED) ? "" : " (not in force)", p->ack_reason);
        printf("%-14s %s\n", "acknowledged", term_clean(text, 0, clean, sizeof clean));
    }
    line("muted by", p->muted_by);
    line("route", p->route);
    if (p->escalated)
        printf("%-14s %u steps\n", "escalated", p->escalated);
    if (p->due_unix_ms && p->state != ST(RESOLVED))
        printf("%-14s %s\n", "looked at next", event_time(p->due_unix_ms, now, at));
}

static void print_receipts(const struct alert_receipts *r, const struct term *t)
{
    static const struct term_column columns[] = {{"WHEN", false}, {"CHANNEL", false}, {"WHAT", false},
                                                 {"TRY", true},   {"CODE", true},     {"DETAIL", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], text[600], code[16];
    if (r->n == 0) {
        printf("\nno receipts are on the stream\n");
        return;
    }
    putchar('\n');
    struct term_table *tab = term_table_begin(columns, 6);
    for (size_t i = 0; i < r->n; i++) {
        const PB(DeliveryReceipt) *d = r->at[i];
        bool told = d->status == REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_ACCEPTED;
        bool bad = d->status == REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_FAILED ||
                   d->status == REDOUBT__V1__DELIVERY_STATUS__DELIVERY_STATUS_EXHAUSTED;
        term_cell(tab, TERM_DIM, "%s", event_time(d->ended_unix_ms, now, at));
        term_cell(tab, TERM_BOLD, "%s", *d->channel ? d->channel : "-");
        term_cell(tab, told ? TERM_GREEN : bad ? TERM_RED : TERM_PLAIN, "%s", EVENT_NAME(delivery_status, d->status));
        term_cell(tab, TERM_PLAIN, "%u", d->attempt);
        snprintf(code, sizeof code, "%u", d->code);
        term_cell(tab, TERM_PLAIN, "%s", d->code ? code : "");
        term_cell(tab, TERM_PLAIN, "%s", term_clean(d->detail, 80, text, sizeof text));
    }
    term_table_end(tab, t, "");
    if (r->cut)
        printf("there are more\n");
}

int cmd_alert_show(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_show *o = opts;
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    struct alert_receipts receipts = {0};
    struct cli_link link;
    m.problem = argv[0];
    int code = cli_link_open(&link, c);
    PB(ProblemChanged) *p = code == CLI_OK ? alert_ask(&link, "problem", &m, PB_DESC(problem_changed), &code) : NULL;
    if (p && !p->alert)
        code = cli_fail(c, CLI_FAILED, "the answer holds no alert");
    else if (p)
        code = alert_receipts_read(&link, p->alert->dedup_key, p->first_unix_ms, &receipts);
    if (code == CLI_OK && p && o->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < receipts.n; i++)
            json_array_append_new(list, status_message_json(receipts.at[i]));
        json_t *j = json_pack("{s:o, s:o}", "problem", status_message_json(p), "receipts", list);
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(j);
    } else if (code == CLI_OK && p) {
        print_problem(p, &c->out);
        print_receipts(&receipts, &c->out);
    }
    wire_free(p);
    alert_receipts_free(&receipts);
    cli_link_close(&link);
    return code;
}

/* ---- ack, unack ---- */

int cmd_alert_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    PB(AlertCommand) m = REDOUBT__V1__ALERT_COMMAND__INIT;
    m.problem = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.duration_ms = (uint64_t)o->for_ms;
    return cli_give(c, "alert", strrchr(c->row->path, ' ') + 1, &m);
}
