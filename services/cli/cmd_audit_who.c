/* cmd_audit_who.c - redoubt audit who: who froze, overrode, silenced, ...: acts with who, when, on what, why, how it ended, and the evidence. */
#include "cli/audit_evidence.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* An act's records, read; the act points into them. */
struct deed {
    const struct evidence_hit *intended_at, *ended_at;
    struct evidence_record intended, ended;
};
struct view {
    struct cli *c;
    const struct audit_view *v;
    struct audit_query q;
    struct evidence ev;
    struct deed *deeds;
    struct audit_act *acts; /* of the same number */
    size_t n;
    bool damaged; /* a record could not be read again */
};

/* Everything of the view's actions: an act that began before --since may have ended after it. */
static bool wanted(void *ctx, const PB(AuditRecord) * r)
{
    const struct view *w = ctx;
    const struct audit_query *q = &w->q;
    struct audit_query near = *q;
    size_t unused;
    near.since_unix_ms = q->since_unix_ms > audit_view_within(w->v) ? q->since_unix_ms - audit_view_within(w->v) : 0;
    near.until_unix_ms = q->until_unix_ms ? q->until_unix_ms + audit_view_within(w->v) : 0;
    near.actor = NULL; /* the end may name the service */
    struct audit_view of_all = *w->v;
    of_all.people = false; /* it may be the end of a person's act */
    return audit_query_fits(&near, r) && audit_view_take(&of_all, NULL, 0, r, &unused) != AUDIT_ACT_NONE;
}

static int put_together(struct view *w)
{
    struct err e = {""};
    w->deeds = calloc(w->ev.n_hits + 1, sizeof *w->deeds);
    w->acts = calloc(w->ev.n_hits + 1, sizeof *w->acts);
    if (!w->deeds || !w->acts)
        return cli_fail(w->c, CLI_FAILED, "out of memory");
    for (size_t i = 0; i < w->ev.n_hits; i++) {
        struct evidence_record rec;
        const struct evidence_hit *h = &w->ev.hits[i];
        if (evidence_read(&w->ev, h, &rec, &e)) {
            w->damaged = true;
            cli_fail(w->c, 0, "%s", e.text);
            continue;
        }
        size_t at = w->n;
        enum audit_act_part part = audit_view_take(w->v, w->acts, w->n, rec.r, &at);
        if (part == AUDIT_ACT_NONE) {
            wire_free(rec.r);
            continue;
        }
        w->n += part != AUDIT_ACT_ENDS;
        if (part == AUDIT_ACT_BEGINS) {
            w->deeds[at].intended = rec;
            w->deeds[at].intended_at = h;
            w->acts[at].intended = rec.r;
        } else {
            w->deeds[at].ended = rec;
            w->deeds[at].ended_at = h;
            w->acts[at].ended = rec.r;
        }
    }
    return CLI_OK;
}

/* ---- one act ---- */

static const PB(AuditRecord) * first_of(const struct audit_act *a)
{
    return a->intended ? a->intended : a->ended;
}

/* Asked for by when it began and by who did it. */
static bool asked_for(const struct view *w, size_t i)
{
    const struct audit_act *a = &w->acts[i];
    struct audit_query q = {.since_unix_ms = w->q.since_unix_ms, .until_unix_ms = w->q.until_unix_ms};
    PB(AuditRecord) who = PB_INIT(AUDIT_RECORD);
    q.actor = w->q.actor;
    who.at_unix_ms = first_of(a)->at_unix_ms;
    who.actor = (char *)audit_act_actor(a);
    return audit_query_fits(&q, &who);
}

static const char *ended_at(const struct audit_act *a, char buf[static CLOCK_TEXT_MAX])
{
    return a->ended ? clock_text(a->ended->at_unix_ms, buf) : "";
}

/* ---- forms ---- */

static void show_text(struct view *w)
{
    static const struct term_column columns[] = {{"WHEN", false},    {"WHO", false},   {"ACTION", false},
                                                 {"ON", false},      {"UNTIL", false}, {"OUTCOME", false},
                                                 {"EVIDENCE", true}, {"WHY", false}};
    struct term_table *tab = term_table_begin(columns, sizeof columns / sizeof *columns);
    char at[CLOCK_TEXT_MAX], word[AUDIT_ACT_OUTCOME_MAX], clean[4][1200];
    for (size_t i = 0; i < w->n; i++) {
        const struct audit_act *a = &w->acts[i];
        const struct deed *d = &w->deeds[i];
        const struct evidence_hit *h = d->intended_at ? d->intended_at : d->ended_at;
        if (!asked_for(w, i))
            continue;
        const char *outcome = audit_act_outcome(w->v, a, word);
        term_cell(tab, TERM_PLAIN, "%s", clock_text(h->at_unix_ms, at));
        term_cell(tab, TERM_BOLD, "%s", term_clean(audit_act_actor(a), 0, clean[0], sizeof clean[0]));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(first_of(a)->action, 0, clean[1], sizeof clean[1]));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(first_of(a)->subject, 0, clean[2], sizeof clean[2]));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(audit_act_until(a), 0, clean[3], sizeof clean[3]));
        term_cell(tab, strcmp(outcome, "done") == 0 ? TERM_GREEN : TERM_YELLOW, "%s", outcome);
        term_cell(tab, TERM_PLAIN, "%s#%" PRIu64 "%s", w->ev.n_trails > 1 ? w->ev.trails[h->trail].dirs[0] : "",
                  h->seq, evidence_covered(&w->ev.trails[h->trail], h->seq) ? "" : " (not signed yet)");
        term_cell(tab, TERM_PLAIN, "%s", term_clean(audit_act_reason(a), 0, clean[0], sizeof clean[0]));
    }
    term_table_end(tab, &w->c->out, "");
    for (size_t i = 0; i < w->ev.n_trails; i++) {
        const struct evidence_trail *t = &w->ev.trails[i];
        printf("%s: chain %s, %" PRIu64 " records, %s", t->dirs[0], t->chain, t->report.records,
               evidence_whole(t) ? "whole" : "NOT WHOLE");
        if (t->report.checkpointed)
            printf(", signed up to record %" PRIu64 " at %s", t->report.checkpoint.size,
                   clock_text(t->report.checkpoint.at_unix_ms, at));
        putchar('\n');
    }
}

static json_t *evidence_or_null(const struct view *w, const struct evidence_hit *h, const struct evidence_record *rec)
{
    return h ? evidence_json(&w->ev, h, rec) : json_null();
}

static void show_json(struct view *w)
{
    json_t *acts = json_array();
    char at[CLOCK_TEXT_MAX], end[CLOCK_TEXT_MAX], word[AUDIT_ACT_OUTCOME_MAX];
    for (size_t i = 0; i < w->n; i++) {
        const struct audit_act *a = &w->acts[i];
        const struct deed *d = &w->deeds[i];
        if (!asked_for(w, i))
            continue;
        json_array_append_new(acts,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:o, s:o}}", "when",
                                        clock_text(first_of(a)->at_unix_ms, at), "who", audit_act_actor(a), "action",
                                        first_of(a)->action, "on", first_of(a)->subject, "why", audit_act_reason(a),
                                        "until", audit_act_until(a), "outcome", audit_act_outcome(w->v, a, word),
                                        "ended", ended_at(a, end), "result", a->ended ? a->ended->detail : "",
                                        "evidence", "intended", evidence_or_null(w, d->intended_at, &d->intended),
                                        "ended", evidence_or_null(w, d->ended_at, &d->ended)));
    }
    json_t *j = json_pack("{s:o, s:s, s:s, s:o}", "trails", evidence_trails_json(&w->ev), "view", w->v->verb,
                          "summary", w->v->summary, "acts", acts);
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

/* Trail, chain, sequence, hash, size of the checkpoint that covers it. */
static void csv_evidence(const struct view *w, const struct evidence_hit *h, const struct evidence_record *rec)
{
    if (!h) {
        fputs(",,,,,", stdout);
        return;
    }
    const struct evidence_trail *t = &w->ev.trails[h->trail];
    evidence_csv(t->dirs[0], false);
    printf(",%s,%" PRIu64 ",%s,", t->chain, h->seq, rec->hash);
    if (evidence_covered(t, h->seq))
        printf("%" PRIu64, t->report.checkpoint.size);
}

static void show_csv(struct view *w)
{
    char at[CLOCK_TEXT_MAX], end[CLOCK_TEXT_MAX], word[AUDIT_ACT_OUTCOME_MAX];
    fputs("whole,when,who,action,on,why,until,outcome,ended,result,intended_trail,intended_chain,intended_sequence,"
          "intended_hash,intended_checkpoint_size,ended_trail,ended_chain,ended_sequence,ended_hash,"
          "ended_checkpoint_size\r\n",
          stdout);
    for (size_t i = 0; i < w->n; i++) {
        const struct audit_act *a = &w->acts[i];
        const struct deed *d = &w->deeds[i];
        if (!asked_for(w, i))
            continue;
        bool whole = (!d->intended_at || evidence_whole(&w->ev.trails[d->intended_at->trail])) &&
                     (!d->ended_at || evidence_whole(&w->ev.trails[d->ended_at->trail]));
        const char *const cells[] = {whole ? "yes" : "NO", clock_text(first_of(a)->at_unix_ms, at),
                                     audit_act_actor(a),   first_of(a)->action,
                                     first_of(a)->subject, audit_act_reason(a),
                                     audit_act_until(a),   audit_act_outcome(w->v, a, word),
                                     ended_at(a, end),     a->ended ? a->ended->detail : ""};
        for (size_t k = 0; k < sizeof cells / sizeof *cells; k++)
            evidence_csv(cells[k], k == 0);
        csv_evidence(w, d->intended_at, &d->intended);
        csv_evidence(w, d->ended_at, &d->ended);
        fputs("\r\n", stdout);
    }
}

static const struct form {
    const char *name;
    void (*show)(struct view *w);
} forms[] = {{"text", show_text}, {"json", show_json}, {"csv", show_csv}};

/* ---- the command ---- */

static int usage(const struct cli *c, const char *verb)
{
    cli_fail(c, 0, "found `%s`; allowed:", verb);
    for (size_t i = 0; i < audit_views_n; i++)
        fprintf(stderr, "  %-14s %s\n", audit_views[i].verb, audit_views[i].summary);
    return CLI_USAGE;
}

int cmd_audit_who(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_audit_query *o = opts;
    const struct form *f = NULL;
    struct view w = {.c = c, .v = audit_view_of(argv[0])};
    struct term err;
    term_init(&err, stderr);
    if (!w.v)
        return usage(c, argv[0]);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].name, o->format) == 0)
            f = &forms[i];
    if (!f)
        return cli_fail(c, CLI_USAGE, "--format: found `%s`; allowed: text, json, csv", o->format);
    int code = evidence_query(c, o, &w.q);
    if (code != CLI_OK)
        return code;
    code = evidence_open(&w.ev, c, o->config, argc - 1, argv + 1);
    bool opened = code == CLI_OK;
    if (opened)
        code = evidence_look(&w.ev, wanted, &w);
    if (opened && code != CLI_USAGE) {
        evidence_say(&w.ev, f->show == show_text ? &c->out : &err);
        int told = put_together(&w);
        if (told == CLI_OK)
            f->show(&w);
        code = code != CLI_OK ? code : told != CLI_OK || w.damaged ? CLI_FAILED : CLI_OK;
        if (fflush(stdout) || ferror(stdout))
            code = cli_fail(c, CLI_FAILED, "cannot write the output");
    }
    for (size_t i = 0; i < w.n; i++) {
        wire_free(w.deeds[i].intended.r);
        wire_free(w.deeds[i].ended.r);
    }
    free(w.deeds);
    free(w.acts);
    evidence_close(&w.ev);
    return code;
}
