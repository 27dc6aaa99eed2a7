/* continuity_avail.c - how long each agent was in which condition: kept, announced, told.
 *
 * The board says when a condition has changed. While who begins to lead rebuilds the board nothing has changed yet: what differs from the documents after that has
 * changed while nobody led, at the time of its evidence. */
#include "common/log.h"
#include "continuity/continuity_impl.h"
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 500
#define OK        REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK
#define INVALID   REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID

static int by_name(const struct agent_time *a, const struct agent_time *b)
{
    return strcmp(a->name, b->name);
}

struct agent_time *avail_of(struct continuity *c, const char *agent)
{
    struct agent_time *a;
    HASH_FIND_STR(c->agents, agent, a);
    if (a || strlen(agent) > NAME_MAX_LEN || !(a = calloc(1, sizeof *a)))
        return a;
    memcpy(a->name, agent, strlen(agent) + 1);
    HASH_ADD_STR(c->agents, name, a);
    c->agents_sorted = false;
    return a;
}

static void touch(struct continuity *c, struct agent_time *a)
{
    a->dirty = true;
    c->agents_dirty++;
}

void avail_again(struct continuity *c, struct agent_time *a)
{
    touch(c, a);
    room_arm(c);
}

void avail_condition(void *ctx, const char *agent, unsigned was, unsigned is, bool drill, int64_t at_ms)
{
    struct continuity *c = ctx;
    (void)was;
    (void)drill; /* a drill's time counts as well */
    if (!c->leads)
        return;
    struct agent_time *a = avail_of(c, agent);
    if (!a) {
        log_error("an agent's time is not counted: out of memory", F_STR("agent", agent));
        return;
    }
    if (c->restoring) {
        a->found_ms = at_ms;
        return;
    }
    if (a->a.known_ms == 0)
        availability_begin(&a->a, 0, at_ms);
    availability_change(&a->a, is, at_ms);
    touch(c, a);
}

void avail_known(struct continuity *c)
{
    int64_t now = continuity_now_ms(c);
    for (size_t i = 0; i < c->s->settings->agents.n; i++) {
        const char *name = CONF_AT(c->s->settings->agents, struct set_agent, i)->name;
        struct agent_time *a = avail_of(c, name);
        if (!a || a->a.known_ms)
            continue;
        unsigned condition = board_condition(c->board, name);
        availability_begin(&a->a, condition, condition && a->found_ms ? a->found_ms : now);
        touch(c, a);
    }
}

void avail_settle(struct continuity *c)
{
    int64_t now = continuity_now_ms(c);
    avail_known(c);
    for (struct agent_time *a = c->agents; a; a = a->hh.next) {
        unsigned condition = board_condition(c->board, a->name);
        if (condition != a->a.condition) {
            int64_t at = condition ? a->found_ms : sight_agent_changed(c->sight, a->name);
            availability_change(&a->a, condition, at > 0 && at < now ? at : now);
            touch(c, a);
        }
        a->found_ms = 0;
    }
}

void avail_incident(struct continuity *c, struct incident *x, struct file *f)
{
    if (x->drill || x->agents_total <= f->counted)
        return;
    const char **names = malloc(x->agents_total * sizeof *names);
    size_t n = names ? board_agents(c->board, x, names, x->agents_total) : 0;
    for (size_t i = f->counted; i < n; i++) {
        struct agent_time *a = avail_of(c, names[i]);
        if (!a)
            continue;
        if (a->a.known_ms == 0)
            availability_begin(&a->a, board_condition(c->board, names[i]), x->last_joined_ms);
        availability_incident(&a->a, x->last_joined_ms);
        touch(c, a);
    }
    f->counted = (uint32_t)n;
    free(names);
}

static void fill(PB(AvailabilityMonth) * to, const struct availability_month *m)
{
    *to = (PB(AvailabilityMonth))PB_INIT(AVAILABILITY_MONTH);
    to->month = m->month;
    to->known_ms = (uint64_t)m->known_ms;
    to->full_ms = (uint64_t)m->full_ms;
    to->degraded_ms = (uint64_t)m->degraded_ms;
    to->llm_fallback_ms = (uint64_t)m->llm_ms;
    to->incidents = m->incidents;
}

static void say(struct continuity *c, struct agent_time *a)
{
    char subject[SUBJECT_MAX_LEN];
    PB(AvailabilityMonth) month[AVAILABILITY_MONTHS], *months[AVAILABILITY_MONTHS];
    PB(AvailabilityState) d = PB_INIT(AVAILABILITY_STATE);
    a->dirty = false;
    a->revision++;
    a->fence = c->fence;
    d.agent = a->name;
    d.revision = a->revision;
    d.fence = c->fence;
    d.known_unix_ms = a->a.known_ms;
    d.condition = a->a.condition;
    d.since_unix_ms = a->a.since_ms;
    for (size_t i = 0; i < a->a.n; i++) {
        fill(&month[i], &a->a.months[i]);
        months[i] = &month[i];
    }
    d.n_months = a->a.n;
    d.months = months;
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_AGENT "%s", a->name);
    continuity_announce(c, subject, a->revision, &d);
}

void avail_say(struct continuity *c, size_t most)
{
    if (c->agents_dirty == 0)
        return;
    for (struct agent_time *a = c->agents; a; a = a->hh.next)
        if (a->dirty && a->a.known_ms) {
            if (most-- == 0)
                return;
            say(c, a);
        }
    c->agents_dirty = 0;
}

/* ---- told ---- */

static void sort(struct continuity *c)
{
    if (!c->agents_sorted)
        HASH_SORT(c->agents, by_name);
    c->agents_sorted = true;
}

/* Of one month, up to now. False if nothing is known of it then. */
static bool of_month(const struct continuity *c, const struct agent_time *a, uint32_t month,
                     struct availability_month *ret)
{
    struct availability now = a->a;
    if (a->a.known_ms == 0 || !settings_agent(c->s->settings, a->name))
        return false;
    availability_settle(&now, continuity_now_ms(c));
    const struct availability_month *m = availability_of(&now, month);
    if (m)
        *ret = *m;
    return m;
}

void continuity_availability(struct continuity *c, uint32_t month,
                             void (*each)(void *ctx, const char *agent, const struct availability_month *m),
                             void *ctx)
{
    struct availability_month m;
    sort(c);
    for (const struct agent_time *a = c->agents; a; a = a->hh.next)
        if (of_month(c, a, month, &m))
            each(ctx, a->name, &m);
}

struct listing {
    const PB(ContinuityCommand) * cmd;
    PB(AvailabilityReport) report;
    PB(AvailabilityLine) line[LINES_MAX], *lines[LINES_MAX];
    PB(AvailabilityMonth) month[LINES_MAX];
    struct availability_month all;
};

static void list(void *ctx, const char *agent, const struct availability_month *m)
{
    struct listing *l = ctx;
    if (*l->cmd->agent && strcmp(l->cmd->agent, agent) != 0)
        return;
    availability_add(&l->all, m);
    l->report.agents_total++;
    if (strcmp(agent, l->cmd->after) <= 0)
        return;
    size_t i = l->report.n_agents;
    if (i == LINES_MAX) {
        l->report.next = l->line[LINES_MAX - 1].agent;
        return;
    }
    fill(&l->month[i], m);
    l->line[i] = (PB(AvailabilityLine))PB_INIT(AVAILABILITY_LINE);
    l->line[i].agent = (char *)agent;
    l->line[i].figures = &l->month[i];
    l->lines[i] = &l->line[i];
    l->report.n_agents++;
}

void avail_command(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply, const char *note)
{
    uint32_t month = cmd->month ? cmd->month : availability_month_of(continuity_now_ms(c));
    if (month < 197001 || month % 100 < 1 || month % 100 > 12) {
        cmd_answer(c, reply, INVALID, "a month is given as 202611", 0, NULL);
        return;
    }
    if (*cmd->agent && !settings_agent(c->s->settings, cmd->agent)) {
        cmd_answer(c, reply, INVALID, "there is no such agent in the settings", 0, NULL);
        return;
    }
    struct listing *l = calloc(1, sizeof *l);
    if (!l) {
        cmd_answer(c, reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, "out of memory", 0, NULL);
        return;
    }
    PB(AvailabilityMonth) all;
    l->cmd = cmd;
    l->all.month = month;
    l->report = (PB(AvailabilityReport))PB_INIT(AVAILABILITY_REPORT);
    continuity_availability(c, month, list, l);
    fill(&all, &l->all);
    l->report.month = month;
    l->report.agents = l->lines;
    l->report.all = &all;
    cmd_answer(c, reply, OK, note, 0, &l->report);
    free(l);
}
