/* rollback_view.c - a deployment's document in words. */
#include "cli/rollback_view.h"
#include "cli/cli.h"
#include "cli/event_line.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define PHASE(x)     REDOUBT__V1__ROLLBACK_PHASE__ROLLBACK_PHASE_##x
#define STAGE(x)     REDOUBT__V1__ROLLBACK_STAGE__ROLLBACK_STAGE_##x
#define HOLD(x)      REDOUBT__V1__ROLLBACK_HOLD__ROLLBACK_HOLD_##x
#define OP(x)        REDOUBT__V1__ROLLBACK_OP__ROLLBACK_OP_##x
#define VERSION(x)   REDOUBT__V1__VERSION_STATE__VERSION_STATE_##x
#define NAME_COLUMNS 24 /* of a version's name in a bar */
#define DIGEST_SHOWN 12
#define WORDS(t, n)  ((size_t)(n) < sizeof(t) / sizeof((t)[0]) && (t)[n] ? (t)[n] : "?")

static const char *const stage_words[] = {
    [STAGE(UNSPECIFIED)] = "",
    [STAGE(GATE)] = "waits until it can be carried",
    [STAGE(SET)] = "shares are being set",
    [STAGE(READ_BACK)] = "shares are read back",
    [STAGE(OBSERVE)] = "observed",
};
static const char *const hold_words[] = {
    [HOLD(UNSPECIFIED)] = "",
    [HOLD(OPERATOR)] = "by order",
    [HOLD(REGRESSION)] = "REGRESSION",
    [HOLD(NO_DATA)] = "the checks have not said enough",
    [HOLD(CAPACITY)] = "not enough capacity",
    [HOLD(TARGET_LOST)] = "THE TARGET HAS DIED",
    [HOLD(BOTH_LOST)] = "NEITHER VERSION IS WELL",
    [HOLD(FAILED)] = "it could not be done",
    [HOLD(CHANGED)] = "somebody else has changed what stands",
};
static const char *const op_words[] = {
    [OP(UNSPECIFIED)] = "",
    [OP(PREFLIGHT)] = "looking whether it is possible",
    [OP(SNAPSHOT)] = "saving the learning data",
    [OP(RESTORE)] = "putting learning data back",
    [OP(MIGRATE)] = "migrating the learning data down",
    [OP(RESUME_WRITER)] = "having the writer go on",
    [OP(UP)] = "bringing the target up",
    [OP(WEIGHT)] = "moving traffic",
    [OP(STOP)] = "stopping",
    [OP(START)] = "starting again",
    [OP(SETTLE)] = "putting it in the deployment's own place",
    [OP(REMOVE)] = "removing",
};

/* Appends; what does not fit is cut. */
__attribute__((format(printf, 2, 3))) static void add(char buf[static ROLLBACK_VIEW_TEXT], const char *fmt, ...)
{
    size_t n = strlen(buf);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf + n, ROLLBACK_VIEW_TEXT - n, fmt, ap);
    va_end(ap);
}

static bool ends(int phase)
{
    return phase == PHASE(DONE) || phase == PHASE(ABORTED) || phase == PHASE(REFUSED);
}

bool rollback_view_busy(const PB(RollbackChanged) * m)
{
    int p = (int)m->phase;
    return *m->job_id && !ends(p) && p != PHASE(IDLE) && p != PHASE(UNSPECIFIED);
}

static enum rollback_fate fate_of(int phase)
{
    switch (phase) {
    case PHASE(UNSPECIFIED):
    case PHASE(IDLE):
        return ROLLBACK_FATE_UNKNOWN;
    case PHASE(HOLD):
        return ROLLBACK_FATE_HOLDS;
    case PHASE(DONE):
        return ROLLBACK_FATE_DONE;
    case PHASE(ABORTED):
        return ROLLBACK_FATE_ABORTED;
    case PHASE(REFUSED):
        return ROLLBACK_FATE_REFUSED;
    default:
        return ROLLBACK_FATE_UNDER_WAY;
    }
}

enum rollback_fate rollback_view_fate(const PB(RollbackChanged) * m, const char *id, const char **ret_reason)
{
    const char *unused;
    const char **reason = ret_reason ? ret_reason : &unused;
    *reason = "";
    if (!*id || strcmp(m->job_id, id) == 0) {
        *reason = m->reason;
        return fate_of((int)m->phase);
    }
    for (size_t i = 0; i < m->n_history; i++) {
        if (strcmp(m->history[i]->job_id, id) == 0 && ends((int)m->history[i]->phase)) {
            *reason = m->history[i]->reason;
            return fate_of((int)m->history[i]->phase);
        }
    }
    return ROLLBACK_FATE_UNKNOWN;
}

bool rollback_view_over(enum rollback_fate f)
{
    return f == ROLLBACK_FATE_DONE || f == ROLLBACK_FATE_ABORTED || f == ROLLBACK_FATE_REFUSED;
}

enum term_colour rollback_view_colour(const PB(RollbackChanged) * m)
{
    switch (m->phase) {
    case PHASE(HOLD):
        return TERM_RED;
    case PHASE(DONE):
        return TERM_GREEN;
    case PHASE(ABORTED):
    case PHASE(ABORTING):
    case PHASE(REFUSED):
        return TERM_YELLOW;
    case PHASE(IDLE):
        return TERM_PLAIN;
    default:
        return TERM_CYAN;
    }
}

/* ---- versions ---- */

const PB(DeployedVersion) * rollback_view_version(const PB(RollbackChanged) * m, const char *id)
{
    for (size_t i = 0; i < m->n_versions; i++)
        if (*id && strcmp(m->versions[i]->id, id) == 0)
            return m->versions[i];
    return NULL;
}

const char *rollback_view_name(const PB(RollbackChanged) * m, const char *id)
{
    const PB(DeployedVersion) *v = rollback_view_version(m, id);
    if (v)
        return v->name;
    /* It may have left the registry since; the plan still has its name. */
    if (m->plan && *id && strcmp(m->plan->from_version, id) == 0 && *m->plan->from_name)
        return m->plan->from_name;
    if (m->plan && *id && strcmp(m->plan->to_version, id) == 0 && *m->plan->to_name)
        return m->plan->to_name;
    return *id ? id : "-";
}

bool rollback_view_broken(const PB(DeployedVersion) * v)
{
    return *v->broken && !v->snapshot_gone;
}

const PB(DeployedVersion) * rollback_view_last_verified(const PB(RollbackChanged) * m)
{
    const PB(DeployedVersion) *best = NULL;
    for (size_t i = 0; i < m->n_versions; i++) {
        const PB(DeployedVersion) *v = m->versions[i];
        if (v->state == VERSION(VERIFIED) && strcmp(v->id, m->current_version) != 0 && !rollback_view_broken(v) &&
            (!best || v->verified_unix_ms >= best->verified_unix_ms))
            best = v;
    }
    return best;
}

const char *rollback_view_handle(const PB(DeployedVersion) * v)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:+@/-";
    return *v->name == '-' || v->name[strspn(v->name, plain)] ? v->id : v->name;
}

const char *rollback_view_state(const PB(DeployedVersion) * v)
{
    switch (v->state) {
    case VERSION(VERIFIED):
        return "verified";
    case VERSION(REJECTED):
        return "rejected";
    default:
        return "not verified";
    }
}

size_t rollback_view_snapshots(const PB(RollbackChanged) * m, const char *version_id)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_lineage; i++)
        n += strcmp(m->lineage[i]->version_id, version_id) == 0;
    return n;
}

const char *rollback_view_digest(const char *digest, char buf[static ROLLBACK_VIEW_NAME])
{
    const char *colon = strchr(digest, ':');
    int head =
        colon && strlen(colon) > DIGEST_SHOWN ? (int)(colon - digest) + 1 + DIGEST_SHOWN : ROLLBACK_VIEW_NAME - 1;
    snprintf(buf, ROLLBACK_VIEW_NAME, "%.*s", head, *digest ? digest : "-");
    return buf;
}

/* ---- bars ---- */

static void fill(char buf[static ROLLBACK_VIEW_TEXT], unsigned percent)
{
    unsigned full = percent >= 100 ? ROLLBACK_VIEW_BAR : percent * ROLLBACK_VIEW_BAR / 100;
    /* Neither a little nor almost all may look like nothing or all. */
    if (percent > 0 && full == 0)
        full = 1;
    add(buf, "[");
    for (unsigned i = 0; i < ROLLBACK_VIEW_BAR; i++)
        add(buf, "%c", i < full ? '#' : '-');
    add(buf, "]");
}

char *rollback_view_bar(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT])
{
    char from[4 * NAME_COLUMNS + 8], to[4 * NAME_COLUMNS + 8];
    unsigned left = m->weight_percent > 100 ? 100 : m->weight_percent;
    term_clean(rollback_view_name(m, m->from_version), NAME_COLUMNS, from, sizeof from);
    term_clean(rollback_view_name(m, m->to_version), NAME_COLUMNS, to, sizeof to);
    *buf = 0;
    add(buf, "%s %3u %% ", from, left);
    fill(buf, left);
    add(buf, " %3u %% %s", 100 - left, to);
    return buf;
}

char *rollback_view_progress_bar(unsigned percent, char buf[static ROLLBACK_VIEW_TEXT])
{
    *buf = 0;
    fill(buf, percent);
    add(buf, " %3u %%", percent > 100 ? 100 : percent);
    return buf;
}

/* ---- time ---- */

static int64_t passed(int64_t since, int64_t now, int64_t most)
{
    int64_t ms = since > 0 && now > since ? now - since : 0;
    return ms > most ? most : ms;
}

unsigned rollback_view_progress(const PB(RollbackChanged) * m, int64_t now_unix_ms, int64_t *ret_left_ms)
{
    const PB(RollbackPlan) *p = m->plan;
    int64_t steps = 0, before = 0, all, over = 0;
    size_t step = p && m->step < p->n_steps ? m->step : 0;
    int phase = (int)(m->phase == PHASE(HOLD) ? m->held_phase : m->phase);
    *ret_left_ms = -1;
    if (m->phase == PHASE(DONE)) {
        *ret_left_ms = 0;
        return 100;
    }
    if (!p || !rollback_view_busy(m) || phase == PHASE(ABORTING))
        return 0;
    for (size_t i = 0; i < p->n_steps; i++) {
        steps += p->steps[i]->observe_ms;
        before += i < step ? p->steps[i]->observe_ms : 0;
    }
    all = steps + p->drain_ms + p->watch_ms;
    if (all <= 0)
        return 0;
    /* While it holds, no time of the plan passes. */
    int64_t now = m->phase == PHASE(HOLD) ? 0 : now_unix_ms;
    switch (phase) {
    case PHASE(SHIFT):
        over = before;
        if (m->stage == STAGE(OBSERVE) && p->n_steps > 0)
            over += passed(m->stage_since_unix_ms, now, p->steps[step]->observe_ms);
        break;
    case PHASE(DRAIN):
        over = steps + passed(m->phase_since_unix_ms, now, p->drain_ms);
        break;
    case PHASE(STOP):
        over = steps + p->drain_ms;
        break;
    case PHASE(VERIFY):
        over = steps + p->drain_ms + passed(m->phase_since_unix_ms, now, p->watch_ms);
        break;
    default:
        break;
    }
    if (m->phase != PHASE(HOLD))
        *ret_left_ms = all - over;
    return (unsigned)(over >= all ? 99 : over * 100 / all); /* 100 is only DONE */
}

/* ---- words ---- */

static void add_step(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT])
{
    if (m->plan && m->plan->n_steps > 0)
        add(buf, ", step %u of %zu", m->step + 1, m->plan->n_steps);
}

char *rollback_view_where(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT])
{
    *buf = 0;
    if (!*m->job_id) {
        add(buf, "no rollback so far");
        return buf;
    }
    if (m->phase == PHASE(HOLD)) {
        add(buf, "HOLDS in %s", EVENT_NAME(rollback_phase, m->held_phase));
        if (m->held_phase == PHASE(SHIFT))
            add_step(m, buf);
        add(buf, ": %s", WORDS(hold_words, m->hold));
        return buf;
    }
    add(buf, "%s%s", EVENT_NAME(rollback_phase, m->phase),
        m->emergency && rollback_view_busy(m) ? " (emergency)" : "");
    if (m->phase == PHASE(SHIFT))
        add_step(m, buf);
    if (m->phase == PHASE(SHIFT) || m->phase == PHASE(ABORTING)) {
        const char *stage = WORDS(stage_words, m->stage);
        add(buf, "%s%s", *stage ? ": " : "", stage);
    }
    return buf;
}

/* Of the present phase or stage: how long it takes by plan; 0 = as long as it takes. */
static int64_t planned(const PB(RollbackChanged) * m, int64_t *ret_since)
{
    const PB(RollbackPlan) *p = m->plan;
    bool staged = m->phase == PHASE(SHIFT) || m->phase == PHASE(ABORTING);
    *ret_since = staged ? m->stage_since_unix_ms : m->phase_since_unix_ms;
    if (!p)
        return 0;
    if (staged)
        return m->stage == STAGE(OBSERVE) && m->step < p->n_steps ? p->steps[m->step]->observe_ms : 0;
    return m->phase == PHASE(DRAIN) ? p->drain_ms : m->phase == PHASE(VERIFY) ? p->watch_ms : 0;
}

char *rollback_view_now(const PB(RollbackChanged) * m, int64_t now_unix_ms, char buf[static ROLLBACK_VIEW_TEXT])
{
    char span[32];
    int64_t since, plan = planned(m, &since);
    *buf = 0;
    if (!rollback_view_busy(m))
        return buf;
    if (since > 0)
        add(buf, "for %s", cli_span(now_unix_ms - since, span, sizeof span));
    if (plan > 0)
        add(buf, " of %s", cli_span(plan, span, sizeof span));
    if (m->phase == PHASE(SHIFT) && m->stage == STAGE(GATE) && m->plan && m->step < m->plan->n_steps)
        add(buf, "; %u instances must be ready", m->plan->steps[m->step]->needs_ready);
    if (m->op != OP(UNSPECIFIED)) {
        add(buf, "%s%s", *buf ? "; " : "", WORDS(op_words, m->op));
        if (m->op_since_unix_ms > 0)
            add(buf, " for %s", cli_span(now_unix_ms - m->op_since_unix_ms, span, sizeof span));
        if (m->op_tries > 1)
            add(buf, ", try %u", m->op_tries);
    }
    return buf;
}

char *rollback_view_line(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT])
{
    rollback_view_where(m, buf);
    if (!*m->job_id) {
        if (*m->current_version)
            add(buf, "; runs %.128s", rollback_view_name(m, m->current_version));
        return buf;
    }
    /* An end without traffic moved has no shares to tell of. */
    if (m->phase != PHASE(REFUSED))
        add(buf, "; %.128s %u %%, %.128s %u %%", rollback_view_name(m, m->from_version), m->weight_percent,
            rollback_view_name(m, m->to_version), m->weight_percent > 100 ? 0 : 100 - m->weight_percent);
    if (*m->reason)
        add(buf, "; %.500s", m->reason);
    return buf;
}

bool rollback_view_problem(const PB(RollbackChanged) * m, char buf[static ROLLBACK_VIEW_TEXT])
{
    if (!rollback_view_busy(m))
        return false;
    char line[ROLLBACK_VIEW_TEXT];
    *buf = 0;
    add(buf, "deployment %.64s: rollback to %.128s %s", m->deployment, rollback_view_name(m, m->to_version),
        m->phase == PHASE(HOLD) ? "" : "is under way: ");
    add(buf, "%.700s", rollback_view_line(m, line));
    return true;
}

/* ---- what a person can do ---- */

enum next { NEXT_HOLD, NEXT_RESUME, NEXT_RESUME_FORCE, NEXT_ABORT, NEXT_ABORT_FORCE, NEXT_EMERGENCY, NEXTS };
static const struct {
    const char *verb, *option, *what;
} next_rows[NEXTS] = {
    [NEXT_HOLD] = {"hold", "", "stay where it is"},
    [NEXT_RESUME] = {"resume", "", "go on with what it waits for"},
    [NEXT_RESUME_FORCE] = {"resume", " --force", "go on in spite of the regression"},
    [NEXT_ABORT] = {"abort", "", "back to the former version, by steps"},
    [NEXT_ABORT_FORCE] = {"abort", " --force", "end it as it stands"},
    [NEXT_EMERGENCY] = {"emergency", "", "all traffic to the target at once, as soon as it can carry it"},
};

static bool fits(const PB(RollbackChanged) * m, enum next row)
{
    bool holds = m->phase == PHASE(HOLD), worse = holds && m->hold == HOLD(REGRESSION);
    bool lost = holds && (m->hold == HOLD(TARGET_LOST) || m->hold == HOLD(BOTH_LOST));
    int phase = (int)(holds ? m->held_phase : m->phase);
    switch (row) {
    case NEXT_HOLD:
        return !holds;
    case NEXT_RESUME:
        return holds && !worse;
    case NEXT_RESUME_FORCE:
        return worse;
    case NEXT_ABORT:
        return phase != PHASE(ABORTING);
    case NEXT_ABORT_FORCE:
        return holds && phase == PHASE(ABORTING);
    default:
        return !lost && !m->emergency && phase <= (int)PHASE(SHIFT);
    }
}

bool rollback_view_next(const PB(RollbackChanged) * m, size_t i, char buf[static ROLLBACK_VIEW_TEXT])
{
    *buf = 0;
    if (!rollback_view_busy(m)) {
        const PB(DeployedVersion) *v = rollback_view_last_verified(m);
        if (!v || i > 1)
            return false;
        add(buf, "redoubt rollback start %s --to %s %s", m->deployment, rollback_view_handle(v),
            i == 0 ? "--dry-run" : "--by NAME --reason WHY");
        return true;
    }
    for (size_t row = 0; row < NEXTS; row++) {
        if (!fits(m, (enum next)row) || i-- > 0)
            continue;
        add(buf, "redoubt rollback %s %s%s --by NAME --reason WHY   # %s", next_rows[row].verb, m->deployment,
            next_rows[row].option, next_rows[row].what);
        return true;
    }
    return false;
}
