/* rollback_follow.c - follows one job to its end.
 *
 * What happens comes by watch: the present at each connect, then every change. Besides, the service is asked for its state every few seconds: that brings
 * what is not announced (each check's last answer), and tells a service that is gone from one that has nothing to say. */
#include "cli/rollback_follow.h"
#include "cli/event_line.h"
#include "cli/rollback_ask.h"
#include "cli/rollback_view.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <stdlib.h>
#include <string.h>

#define ASK_MS    3000 /* how often the service is asked */
#define ANSWER_MS 2500
#define DRAW_MS   250   /* on a terminal: times grow */
#define DEAF_MS   15000 /* nothing heard for so long is said */
#define ABORT_MS  30000 /* an abort that was ordered has at least this long until its job is said to hold again */

struct follow {
    struct cli_link *k;
    const struct rollback_follow_opts *o;
    const char *deployment;
    char job[65];
    PB(RollbackChanged) * doc; /* the newest; NULL = nothing yet */
    bool changed, asking;
    int64_t asked_ms, heard_ms, held_ms; /* by the monotonic clock; held 0 = it does not hold */
    bool deaf_said, abort_sent;
    uint64_t downs;
    bool up;
    char said[ROLLBACK_VIEW_TEXT]; /* the last line */
    int drawn;                     /* rows on the terminal that are drawn anew */
};

/* ---- what is heard ---- */

static void take(struct follow *f, PB(RollbackChanged) * doc, bool answer)
{
    if (!doc)
        return;
    f->heard_ms = clock_mono_ms();
    /* Of the same epoch an answer of the service is the fresher one: it has the checks. */
    bool fresh = strcmp(doc->deployment, f->deployment) == 0 &&
                 (!f->doc || f->doc->epoch < doc->epoch || (answer && f->doc->epoch == doc->epoch));
    if (fresh && !*f->job && *doc->job_id)
        snprintf(f->job, sizeof f->job, "%s", doc->job_id);
    wire_free(fresh ? f->doc : doc);
    if (fresh) {
        f->doc = doc;
        f->changed = true;
    }
}

static void on_doc(void *ctx, const struct bus_msg *m)
{
    take(ctx, wire_unpack(PB_DESC(rollback_changed), m->data, m->len, NULL), false);
}

static void on_synced(void *ctx)
{
    ((struct follow *)ctx)->changed = true;
}

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct follow *f = ctx;
    f->asking = false;
    PB(CommandReply) *r = st == BUS_OK ? wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL) : NULL;
    if (r)
        take(f, rollback_of_reply(r), true);
    wire_free(r);
}

static void ask(struct follow *f)
{
    int64_t now = clock_mono_ms();
    if (f->asking || !f->k->up || (f->asked_ms && now - f->asked_ms < ASK_MS))
        return;
    f->asked_ms = now;
    f->asking = rollback_ask_state(f->k, f->deployment, ANSWER_MS, on_state, f) == 0;
}

/* ---- what is shown ---- */

static void undraw(struct follow *f)
{
    if (f->drawn > 0)
        printf("\033[%dA\033[J", f->drawn);
    f->drawn = 0;
}

__attribute__((format(printf, 4, 5))) static void row(struct follow *f, enum term_colour c, const char *title,
                                                      const char *fmt, ...)
{
    const struct term *t = &f->k->c->out;
    char raw[2 * ROLLBACK_VIEW_TEXT], clean[2 * ROLLBACK_VIEW_TEXT];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    /* A row that wraps would spoil the counting of rows. */
    size_t room = t->columns > 16 ? (size_t)t->columns - 13 : 80;
    term_print(t, TERM_DIM, "  %-9s ", title);
    term_print(t, c, "%s\n", term_clean(raw, room, clean, sizeof clean));
    f->drawn++;
}

static void add_check(const PB(CheckResult) * c, char *buf, size_t size)
{
    size_t n = strlen(buf);
    snprintf(buf + n, size - n, "%s%.64s %s", n ? ", " : "", c->name, EVENT_NAME(check_outcome, c->outcome));
    n = strlen(buf);
    if (c->in_a_row > 0)
        snprintf(buf + n, size - n, " (%u in a row)", c->in_a_row);
}

static void draw(struct follow *f)
{
    struct term *t = &f->k->c->out;
    const PB(RollbackChanged) *m = f->doc;
    char text[ROLLBACK_VIEW_TEXT], now_text[ROLLBACK_VIEW_TEXT], span[32], left[32], checks[ROLLBACK_VIEW_TEXT] = "";
    int64_t now = clock_wall_ms(), left_ms;
    undraw(f);
    if (!m || !rollback_view_busy(m))
        return;
    term_measure(t);
    row(f, rollback_view_colour(m), "job", "%s %s", rollback_view_where(m, text),
        rollback_view_now(m, now, now_text));
    row(f, TERM_BOLD, "traffic", "%s", rollback_view_bar(m, text));
    unsigned percent = rollback_view_progress(m, now, &left_ms);
    cli_span(now - m->started_unix_ms, span, sizeof span);
    if (left_ms >= 0)
        row(f, TERM_PLAIN, "progress", "%s, %s so far, at least %s left", rollback_view_progress_bar(percent, text),
            span, cli_span(left_ms, left, sizeof left));
    else
        row(f, TERM_PLAIN, "progress", "%s, %s so far", rollback_view_progress_bar(percent, text), span);
    for (size_t i = 0; i < m->n_checks; i++)
        add_check(m->checks[i], checks, sizeof checks);
    if (*checks)
        row(f, TERM_PLAIN, "checks", "%s", checks);
    if (!f->k->up)
        row(f, TERM_RED, "", "THE BUS IS LOST: this is what was known");
    else if (f->deaf_said)
        row(f, TERM_RED, "", "redoubt-rollback does not answer: this is what was known");
    fflush(stdout);
}

static void say(struct follow *f, enum term_colour c, const char *line)
{
    char clean[ROLLBACK_VIEW_TEXT], at[EVENT_TIME_MAX];
    int64_t now = clock_wall_ms();
    undraw(f);
    term_print(&f->k->c->out, TERM_DIM, "%s  ", event_time(now, now, at));
    term_print(&f->k->c->out, c, "%s\n", term_clean(line, 0, clean, sizeof clean));
    fflush(stdout);
}

/* A line for what is new; the same is not said twice. */
static void say_change(struct follow *f)
{
    const PB(RollbackChanged) *m = f->doc;
    char line[ROLLBACK_VIEW_TEXT];
    if (!m || !*f->job || strcmp(m->job_id, f->job) != 0)
        return;
    rollback_view_line(m, line);
    if (strcmp(line, f->said) == 0)
        return;
    snprintf(f->said, sizeof f->said, "%s", line);
    if (f->o->json) {
        json_t *j = status_message_json(m);
        json_dumpf(j, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(j);
        return;
    }
    say(f, rollback_view_colour(m), line);
}

/* On stderr, as it is about the command and not about the job. */
static void say_connection(struct follow *f)
{
    struct cli_link *k = f->k;
    if (k->downs != f->downs || (k->up && !f->up)) {
        undraw(f);
        fflush(stdout);
        fprintf(stderr, "redoubt %s: %s\n", k->c->row->path,
                k->up ? "connected again"
                      : "the connection was lost; the job goes on, and is followed again when it is back");
    }
    f->downs = k->downs;
    f->up = k->up;
    bool deaf = clock_mono_ms() - f->heard_ms > DEAF_MS;
    if (deaf && !f->deaf_said && k->up) {
        undraw(f);
        fflush(stdout);
        fprintf(stderr,
                "redoubt %s: redoubt-rollback has not answered for %d s; its job goes on when a replica runs again\n",
                k->c->row->path, DEAF_MS / 1000);
        f->deaf_said = true;
    }
    if (!deaf)
        f->deaf_said = false;
}

/* ---- how it ends ---- */

static int say_interrupted(struct follow *f)
{
    undraw(f);
    return cli_fail(f->k->c, CLI_UNREACHABLE, "interrupted; the job goes on: `redoubt rollback watch %s` follows it",
                    f->deployment);
}

static void say_next(const PB(RollbackChanged) * m)
{
    char text[ROLLBACK_VIEW_TEXT];
    fflush(stdout);
    for (size_t i = 0; rollback_view_next(m, i, text); i++)
        fprintf(stderr, "  %s\n", text);
}

/* What the job went back to, by the name that people call it. */
static const char *target_of(const struct follow *f)
{
    const PB(RollbackChanged) *m = f->doc;
    if (strcmp(m->job_id, f->job) == 0)
        return rollback_view_name(m, m->to_version);
    for (size_t i = 0; i < m->n_history; i++)
        if (strcmp(m->history[i]->job_id, f->job) == 0)
            return m->history[i]->to_name;
    return "";
}

/* The code for a job that is over. */
static int ended(struct follow *f, enum rollback_fate fate, const char *reason)
{
    const PB(RollbackChanged) *m = f->doc;
    undraw(f);
    fflush(stdout);
    if (fate != ROLLBACK_FATE_DONE)
        return cli_fail(f->k->c, CLI_FAILED, "the rollback was %s%s%s",
                        fate == ROLLBACK_FATE_ABORTED ? "aborted: the former version carries the traffic"
                                                      : "refused: nothing was changed",
                        *reason ? "; " : "", reason);
    const char *current = rollback_view_name(m, m->current_version), *target = target_of(f);
    if (f->o->must_be_current && strcmp(current, target) != 0)
        return cli_fail(f->k->c, CLI_FAILED,
                        "the rollback is done, but the current version is %s and not %s: somebody has deployed since",
                        current, target);
    if (!f->o->json)
        say(f, TERM_GREEN, *reason ? reason : "done");
    return CLI_OK;
}

/* It holds for too long. -1 = it is being aborted, and followed on. */
static int held(struct follow *f, const char *reason)
{
    char why[512], span[32];
    if (f->abort_sent || !f->o->abort_on_hold) {
        undraw(f);
        int code = cli_fail(f->k->c, CLI_FAILED, "it holds: %s; nothing more happens until a person decides", reason);
        say_next(f->doc);
        return code;
    }
    f->abort_sent = true;
    f->held_ms = 0;
    snprintf(why, sizeof why, "it held for %s: %.400s", cli_span(f->o->hold_limit_ms, span, sizeof span), reason);
    say(f, TERM_YELLOW, "it holds for too long: aborting");
    PB(RollbackCommand) c = REDOUBT__V1__ROLLBACK_COMMAND__INIT;
    c.deployment = (char *)f->deployment;
    c.job_id = f->job;
    c.by = (char *)f->o->by;
    c.reason = why;
    int code = cli_insist(f->k, "rollback", "abort", &c);
    return code == CLI_OK ? -1 : code;
}

/* What the present means for the command: an exit code, or -1 = go on. */
static int judge(struct follow *f)
{
    const char *reason = "";
    int64_t now = clock_mono_ms();
    if (f->o->lost_limit_ms >= 0 && now - f->heard_ms > f->o->lost_limit_ms) {
        char span[32];
        undraw(f);
        return cli_fail(f->k->c, CLI_UNREACHABLE, "%s for %s: it is not known how the job stands",
                        f->k->up ? "redoubt-rollback was not heard" : "the bus was away",
                        cli_span(f->o->lost_limit_ms, span, sizeof span));
    }
    if (!f->doc)
        return -1;
    if (!*f->job) { /* there never was one */
        undraw(f);
        return cli_fail(f->k->c, CLI_OK, "no rollback of %s is under way, and there was none so far", f->deployment);
    }
    enum rollback_fate fate = rollback_view_fate(f->doc, f->job, &reason);
    if (rollback_view_over(fate))
        return ended(f, fate, reason);
    if (fate != ROLLBACK_FATE_HOLDS)
        f->held_ms = 0;
    else if (f->held_ms == 0)
        f->held_ms = now;
    int64_t limit = f->o->hold_limit_ms;
    if (f->abort_sent && limit < ABORT_MS)
        limit = ABORT_MS;
    if (f->held_ms && f->o->hold_limit_ms >= 0 && now - f->held_ms >= limit)
        return held(f, *reason ? reason : "no reason was given");
    return -1;
}

int rollback_follow(struct cli_link *k, const char *deployment, const char *job, const struct rollback_follow_opts *o)
{
    char filter[SUBJECT_MAX_LEN];
    struct follow f = {.k = k, .o = o, .deployment = deployment, .downs = k->downs, .up = k->up};
    bool drawing = o->in_place && k->c->out.tty && !o->json;
    bool live;
    int code = -1;
    snprintf(f.job, sizeof f.job, "%s", job);
    snprintf(filter, sizeof filter, SUBJECT_ROLLBACK "%s", deployment);
    f.heard_ms = clock_mono_ms();
    if (!*job) { /* the service knows best which job is the present one */
        PB(RollbackChanged) *doc = NULL;
        int got = rollback_ask_one(k, deployment, &doc, &live);
        if (got != CLI_OK)
            return got;
        take(&f, doc, live);
    }
    struct bus_watch *w = bus_watch(k->bus, filter, 0, on_doc, on_synced, &f);
    if (!w)
        code = cli_fail(k->c, CLI_FAILED, "cannot watch %s", filter);
    while (code < 0) {
        f.changed = false;
        say_change(&f);
        say_connection(&f);
        code = judge(&f);
        if (code < 0 && k->interrupted)
            code = say_interrupted(&f);
        if (code < 0 && ferror(stdout))
            code = CLI_FAILED;
        if (code >= 0)
            break;
        if (drawing)
            draw(&f);
        ask(&f);
        loop_run_until(&k->loop, &f.changed, DRAW_MS);
    }
    if (w)
        bus_watch_close(w);
    while (f.asking) { /* it ends by itself, and writes to `f` */
        f.changed = false;
        loop_run_until(&k->loop, &f.changed, 50);
    }
    wire_free(f.doc);
    return code;
}
