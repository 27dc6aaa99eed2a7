/* cmd_rollback_show.c - redoubt rollback, versions, status, history, lineage: what is known, as tables and as JSON. */
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "cli/rollback_ask.h"
#include "cli/rollback_view.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))
#define PHASE(x)    REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_##x

static void print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

static const char *when(int64_t unix_ms, int64_t now, char buf[static EVENT_TIME_MAX])
{
    if (unix_ms <= 0)
        snprintf(buf, EVENT_TIME_MAX, "-");
    else
        event_time(unix_ms, now, buf);
    return buf;
}

/* On stderr if nobody answered: what follows may be old. */
static void say_live(const struct cli *c, bool live)
{
    if (!live)
        cli_fail(c, 0, "redoubt-rollback does not answer: this is what it announced last");
}

static void print_next(const PB(RollbackChanged) * m, const struct term *t)
{
    char text[ROLLBACK_VIEW_TEXT];
    for (size_t i = 0; rollback_view_next(m, i, text); i++)
        term_print(t, TERM_DIM, "  %s\n", text);
}

/* ---- all deployments in short ---- */

static void print_all(const struct rollback_docs *d, const struct term *t)
{
    static const struct term_column columns[] = {{"DEPLOYMENT", false}, {"CURRENT", false}, {"BACK TO", false},
                                                 {"VERIFIED", false},   {"KEPT", true},     {"ROLLBACK", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], text[ROLLBACK_VIEW_TEXT];
    if (d->n == 0) {
        printf("no deployment is known: `rollback.deployments` of the settings names them (`redoubt config show "
               "--help-text`), "
               "and redoubt-rollback must run\n");
        return;
    }
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < d->n; i++) {
        const PB(RollbackChanged) *m = d->at[i];
        const PB(DeployedVersion) *v = rollback_view_last_verified(m);
        size_t kept = 0;
        for (size_t k = 0; k < m->n_versions; k++)
            kept += m->versions[k]->kept && strcmp(m->versions[k]->id, m->current_version) != 0;
        term_cell(tab, TERM_BOLD, "%s", m->deployment);
        term_cell(tab, TERM_PLAIN, "%s", rollback_view_name(m, m->current_version));
        term_cell(tab, v ? TERM_GREEN : TERM_YELLOW, "%s", v ? v->name : "nothing");
        term_cell(tab, TERM_PLAIN, "%s", when(v ? v->verified_unix_ms : 0, now, at));
        term_cell(tab, TERM_PLAIN, "%zu", kept);
        term_cell(tab, rollback_view_colour(m), "%s", rollback_view_line(m, text));
    }
    term_table_end(tab, t, "");
    for (size_t i = 0; i < d->n; i++)
        print_next(d->at[i], t);
}

static json_t *docs_json(const struct rollback_docs *d)
{
    json_t *list = json_array();
    for (size_t i = 0; i < d->n; i++)
        json_array_append_new(list, status_message_json(d->at[i]));
    return json_pack("{s:o}", "deployments", list);
}

int cmd_rollback_list(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_rollback *o = opts;
    struct rollback_docs d = {0};
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = rollback_ask_all(&link, &d);
    if (code == CLI_OK && o->json)
        print_json(docs_json(&d));
    else if (code == CLI_OK)
        print_all(&d, &c->out);
    rollback_docs_free(&d);
    cli_link_close(&link);
    return code;
}

/* ---- versions of one ---- */

static void print_versions(const PB(RollbackChanged) * m, const struct rollback_records *r, const struct term *t)
{
    static const struct term_column columns[] = {
        {"", false},         {"VERSION", false}, {"ID", false},    {"DIGEST", false},   {"STATE", false},
        {"VERIFIED", false}, {"KEPT", false},    {"SCHEMA", true}, {"SNAPSHOTS", true}, {"REMARKS", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], digest[ROLLBACK_VIEW_NAME], remark[ROLLBACK_VIEW_TEXT];
    if (m->n_versions == 0) {
        printf("no version of %s is known yet: redoubt-rollback records what it finds running\n", m->deployment);
        return;
    }
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = m->n_versions; i-- > 0;) { /* the newest first */
        const PB(DeployedVersion) *v = m->versions[i];
        const PB(VersionRecord) *rec = rollback_record(r, v->id);
        bool current = strcmp(v->id, m->current_version) == 0;
        bool rejected = v->state == REDOUBT__V1__VERSION_STATE__VERSION_STATE_REJECTED;
        bool verified = v->state == REDOUBT__V1__VERSION_STATE__VERSION_STATE_VERIFIED;
        term_cell(tab, TERM_GREEN, "%s", current ? "*" : "");
        term_cell(tab, current ? TERM_BOLD : TERM_PLAIN, "%s", v->name);
        term_cell(tab, TERM_PLAIN, "%s", v->id);
        term_cell(tab, TERM_DIM, "%s", rollback_view_digest(v->digest, digest));
        term_cell(tab, verified ? TERM_GREEN : rejected ? TERM_RED : TERM_YELLOW, "%s", rollback_view_state(v));
        term_cell(tab, TERM_PLAIN, "%s", when(v->verified_unix_ms, now, at));
        term_cell(tab, TERM_PLAIN, "%s", current ? "current" : v->kept ? "yes" : "no");
        if (v->data_schema)
            term_cell(tab, TERM_PLAIN, "%" PRId64, v->data_schema);
        else
            term_cell(tab, TERM_DIM, "-");
        term_cell(tab, TERM_PLAIN, "%zu", rollback_view_snapshots(m, v->id));
        snprintf(remark, sizeof remark, "%.500s%s%s%s", v->reason, *v->reason && *v->broken ? "; " : "",
                 !*v->broken               ? ""
                 : rollback_view_broken(v) ? "cannot be brought up: "
                                           : "",
                 v->broken);
        for (size_t g = 0; rec && g < rec->n_gaps; g++) {
            size_t n = strlen(remark);
            snprintf(remark + n, sizeof remark - n, "%scannot be made again: %.256s", n ? "; " : "", rec->gaps[g]);
        }
        term_cell(tab, *v->broken ? TERM_RED : rec && rec->n_gaps ? TERM_YELLOW : TERM_PLAIN, "%s", remark);
    }
    term_table_end(tab, t, "");
    print_next(m, t);
}

static json_t *versions_json(const PB(RollbackChanged) * m, const struct rollback_records *r)
{
    json_t *list = json_array();
    for (size_t i = m->n_versions; i-- > 0;) {
        const PB(VersionRecord) *rec = rollback_record(r, m->versions[i]->id);
        json_t *j = status_message_json(m->versions[i]), *gaps = json_array();
        for (size_t g = 0; rec && g < rec->n_gaps; g++)
            json_array_append_new(gaps, json_string(rec->gaps[g]));
        json_object_set_new(j, "current", json_boolean(strcmp(m->versions[i]->id, m->current_version) == 0));
        json_object_set_new(j, "image", json_string(rec ? rec->image : ""));
        json_object_set_new(j, "executor", json_string(rec ? rec->executor : ""));
        json_object_set_new(j, "gaps", gaps);
        json_object_set_new(j, "snapshots", json_integer((json_int_t)rollback_view_snapshots(m, m->versions[i]->id)));
        json_array_append_new(list, j);
    }
    return json_pack("{s:s, s:o}", "deployment", m->deployment, "versions", list);
}

int cmd_rollback_versions(struct cli *c, const void *opts, int argc, char **argv)
{
    if (argc == 0)
        return cmd_rollback_list(c, opts, argc, argv);
    const struct opts_rollback *o = opts;
    PB(RollbackChanged) *m = NULL;
    struct rollback_records records = {0};
    struct cli_link link;
    bool live = true;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = rollback_ask_one(&link, argv[0], &m, &live);
    if (code == CLI_OK)
        code = rollback_ask_records(&link, argv[0], &records);
    if (code == CLI_OK) {
        say_live(c, live);
        if (o->json)
            print_json(versions_json(m, &records));
        else
            print_versions(m, &records, &c->out);
    }
    rollback_records_free(&records);
    wire_free(m);
    cli_link_close(&link);
    return code;
}

/* ---- status ---- */

__attribute__((format(printf, 2, 3))) static void line(const char *what, const char *fmt, ...)
{
    char raw[2 * ROLLBACK_VIEW_TEXT], clean[2 * ROLLBACK_VIEW_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    if (*raw)
        printf("%-10s %s\n", what, term_clean(raw, 0, clean, sizeof clean));
}

static void print_checks(const PB(RollbackChanged) * m, const struct term *t)
{
    static const struct term_column columns[] = {{"CHECK", false}, {"CLASS", false}, {"OUTCOME", false},
                                                 {"ROW", true},    {"AT", false},    {"SEEN", false}};
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX];
    if (m->n_checks == 0)
        return;
    putchar('\n');
    struct term_table *tab = term_table_begin(columns, COUNT(columns));
    for (size_t i = 0; i < m->n_checks; i++) {
        const PB(CheckResult) *k = m->checks[i];
        bool failed = k->outcome == REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_FAILED;
        bool passed = k->outcome == REDOUBT__V1__CHECK_OUTCOME__CHECK_OUTCOME_PASSED;
        term_cell(tab, TERM_BOLD, "%s", k->name);
        term_cell(tab, TERM_PLAIN, "%s", EVENT_NAME(check_class, k->check_class));
        term_cell(tab,
                  failed   ? TERM_RED
                  : passed ? TERM_GREEN
                           : TERM_YELLOW,
                  "%s", EVENT_NAME(check_outcome, k->outcome));
        term_cell(tab, TERM_PLAIN, "%u of %u", k->in_a_row, k->limit ? k->limit : 1);
        term_cell(tab, TERM_PLAIN, "%s", when(k->at_unix_ms, now, at));
        term_cell(tab, TERM_PLAIN, "%s", k->detail);
    }
    term_table_end(tab, t, "");
}

static void print_status(const PB(RollbackChanged) * m, const struct term *t)
{
    char text[ROLLBACK_VIEW_TEXT], more[ROLLBACK_VIEW_TEXT], at[EVENT_TIME_MAX], span[32];
    int64_t now = clock_wall_ms(), left;
    bool busy = rollback_view_busy(m);
    term_print(t, TERM_BOLD, "%s", m->deployment);
    printf("  ");
    term_print(t, rollback_view_colour(m), "%s", rollback_view_where(m, text));
    printf("  %s\n", rollback_view_now(m, now, more));
    line("current", "%s", rollback_view_name(m, m->current_version));
    if (*m->job_id) {
        line("rollback", "%s -> %s (job %s)%s%s", rollback_view_name(m, m->from_version),
             rollback_view_name(m, m->to_version), m->job_id, m->forced ? ", forced" : "",
             m->automatic ? ", by the policy" : "");
        line("started", "%s by %s: %s", when(m->started_unix_ms, now, at), m->started_by, m->started_why);
    }
    if (busy) {
        printf("%-10s %s\n", "traffic", rollback_view_bar(m, text));
        if (m->weight_wanted != m->weight_percent)
            line("", "%u %% is wanted on %s", m->weight_wanted, rollback_view_name(m, m->from_version));
        unsigned percent = rollback_view_progress(m, now, &left);
        printf("%-10s %s", "progress", rollback_view_progress_bar(percent, text));
        if (left >= 0)
            printf(", at least %s left", cli_span(left, span, sizeof span));
        putchar('\n');
        if (m->overhead_ms > 0)
            line("overhead", "%s between the last two steps", cli_span(m->overhead_ms, span, sizeof span));
        if (m->writer_paused)
            line("data", "the writer of the learning data is paused");
        if (m->data_replaced)
            line("data", "the learning data were replaced; what was there is kept");
        line("snapshot", "%s", m->snapshot);
    } else if (*m->job_id) {
        line("ended", "%s", when(m->ended_unix_ms, now, at));
    }
    line(m->phase == PHASE(HOLD) ? "holds" : "why", "%s", m->reason);
    print_checks(m, t);
    if (busy)
        putchar('\n');
    print_next(m, t);
}

static bool holds(const PB(RollbackChanged) * m)
{
    return m->phase == PHASE(HOLD);
}

static int status_of_all(struct cli_link *k, bool json)
{
    struct rollback_docs d = {0};
    int code = rollback_ask_all(k, &d);
    if (code == CLI_OK && json)
        print_json(docs_json(&d));
    else if (code == CLI_OK && d.n == 0)
        print_all(&d, &k->c->out);
    for (size_t i = 0; code == CLI_OK && i < d.n && !json; i++) {
        if (i > 0)
            putchar('\n');
        print_status(d.at[i], &k->c->out);
    }
    for (size_t i = 0; i < d.n; i++)
        if (code == CLI_OK && holds(d.at[i]))
            code = CLI_FAILED;
    rollback_docs_free(&d);
    return code;
}

int cmd_rollback_status(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_rollback *o = opts;
    PB(RollbackChanged) *m = NULL;
    struct cli_link link;
    bool live = true;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && argc == 0) {
        code = status_of_all(&link, o->json);
    } else if (code == CLI_OK && (code = rollback_ask_one(&link, argv[0], &m, &live)) == CLI_OK) {
        say_live(c, live);
        if (o->json)
            print_json(status_message_json(m));
        else
            print_status(m, &c->out);
        code = holds(m) ? CLI_FAILED : CLI_OK;
    }
    wire_free(m);
    cli_link_close(&link);
    return code;
}

/* ---- history and lineage ---- */

static void history_rows(struct term_table *tab, const PB(RollbackChanged) * m, size_t most)
{
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX], span[32];
    for (size_t i = 0; i < m->n_history && i < most; i++) {
        const PB(RollbackEnded) *h = m->history[i];
        bool done = h->phase == PHASE(DONE);
        term_cell(tab, TERM_DIM, "%s", when(h->started_unix_ms, now, at));
        term_cell(tab, TERM_BOLD, "%s", m->deployment);
        term_cell(tab, TERM_PLAIN, "%s -> %s", *h->from_name ? h->from_name : "-", *h->to_name ? h->to_name : "-");
        term_cell(tab, done ? TERM_GREEN : TERM_YELLOW, "%s", EVENT_NAME(rollback_phase, h->phase));
        term_cell(tab, TERM_PLAIN, "%s",
                  cli_span(h->ended_unix_ms > h->started_unix_ms ? h->ended_unix_ms - h->started_unix_ms : 0, span,
                           sizeof span));
        term_cell(tab, TERM_PLAIN, "%u", h->holds);
        term_cell(tab, TERM_PLAIN, "%s", h->started_by);
        term_cell(tab, TERM_DIM, "%s", h->job_id);
        term_cell(tab, TERM_PLAIN, "%s%s%s", h->started_why, *h->reason ? "; " : "", h->reason);
    }
}

static void lineage_rows(struct term_table *tab, const PB(RollbackChanged) * m, size_t most)
{
    int64_t now = clock_wall_ms();
    char at[EVENT_TIME_MAX];
    for (size_t i = 0; i < m->n_lineage && i < most; i++) {
        const PB(Lineage) *l = m->lineage[i];
        bool current = strcmp(l->version_id, m->current_version) == 0;
        term_cell(tab, TERM_DIM, "%s", when(l->taken_unix_ms, now, at));
        term_cell(tab, TERM_BOLD, "%s%s", *l->version_name ? l->version_name : l->version_id, current ? " *" : "");
        term_cell(tab, TERM_PLAIN, "%s", l->snapshot);
        if (*l->stream)
            term_cell(tab, TERM_PLAIN, "%s %" PRIu64, l->stream, l->stream_sequence);
        else
            term_cell(tab, TERM_DIM, "-");
        term_cell(tab, TERM_PLAIN, "%" PRIu64, l->files);
        term_cell(tab, TERM_PLAIN, "%" PRIu64, l->bytes);
        if (l->data_schema)
            term_cell(tab, TERM_PLAIN, "%" PRId64, l->data_schema);
        else
            term_cell(tab, TERM_DIM, "-");
        term_cell(tab, l->verified ? TERM_GREEN : TERM_RED, "%s", l->verified ? "verified" : "NOT VERIFIED");
        term_cell(tab, TERM_PLAIN, "%s%s%s", l->why, *l->job_id ? ", job " : "", l->job_id);
    }
}

/* What history and lineage are made of. */
struct past {
    const struct term_column *columns;
    size_t n_columns;
    void (*rows)(struct term_table *tab, const PB(RollbackChanged) * m, size_t most);
    const char *key, *none;
};

static int show_past(struct cli *c, const struct opts_rollback *o, const char *deployment, const struct past *p)
{
    PB(RollbackChanged) *m = NULL;
    struct cli_link link;
    bool live = true;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = rollback_ask_one(&link, deployment, &m, &live)) == CLI_OK) {
        say_live(c, live);
        json_t *whole = status_message_json(m), *list = json_object_get(whole, p->key);
        while (json_array_size(list) > (size_t)o->count)
            (void)json_array_remove(list, json_array_size(list) - 1);
        if (o->json) {
            print_json(json_pack("{s:s, s:O}", "deployment", m->deployment, p->key, list));
        } else if (json_array_size(list) == 0) {
            printf("%s\n", p->none);
        } else {
            struct term_table *tab = term_table_begin(p->columns, p->n_columns);
            p->rows(tab, m, (size_t)o->count);
            term_table_end(tab, &c->out, "");
        }
        json_decref(whole);
    }
    wire_free(m);
    cli_link_close(&link);
    return code;
}

int cmd_rollback_history(struct cli *c, const void *opts, int argc, char **argv)
{
    static const struct term_column columns[] = {{"BEGAN", false}, {"DEPLOYMENT", false}, {"ROLLBACK", false},
                                                 {"END", false},   {"TOOK", false},       {"HOLDS", true},
                                                 {"BY", false},    {"JOB", false},        {"WHY", false}};
    static const struct past p = {columns, COUNT(columns), history_rows, "history",
                                  "there was no rollback so far; `redoubt audit who rolled-back` looks further back"};
    (void)argc;
    return show_past(c, opts, argv[0], &p);
}

int cmd_rollback_lineage(struct cli *c, const void *opts, int argc, char **argv)
{
    static const struct term_column columns[] = {{"TAKEN", false},  {"VERSION", false}, {"SNAPSHOT", false},
                                                 {"STREAM", false}, {"FILES", true},    {"BYTES", true},
                                                 {"SCHEMA", true},  {"STATE", false},   {"WHY", false}};
    static const struct past p = {columns, COUNT(columns), lineage_rows, "lineage",
                                  "no snapshot of learning data is known"};
    (void)argc;
    return show_past(c, opts, argv[0], &p);
}
