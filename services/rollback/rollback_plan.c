/* rollback_plan.c - the plan of a rollback: steps, capacity, and what happens to the learning data; and the plan in words. Pure. */
#include "rollback/rollback_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const int usual[] = {100, 50, 25, 10, 0};

unsigned rollback_needs(const struct rollback_plan *p, int weight)
{
    return (unsigned)(((uint64_t)p->instances * (unsigned)(100 - weight) + 99) / 100);
}

__attribute__((format(printf, 3, 4))) static int no(char *why, size_t size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, size, fmt, ap);
    va_end(ap);
    return -1;
}

static int make_steps(const struct rollback_rule *rule, struct rollback_plan *p, char *why, size_t size)
{
    if (!rule->gradual) {
        p->n_steps = 1; /* all at once */
        return 0;
    }
    const int *weight = rule->n_steps > 0 ? rule->weight : usual;
    p->n_steps = rule->n_steps > 0 ? rule->n_steps : sizeof usual / sizeof usual[0];
    if (p->n_steps > ROLLBACK_STEPS)
        return no(why, size, "`steps` has %zu steps; allowed: %d", p->n_steps, ROLLBACK_STEPS);
    for (size_t i = 0; i < p->n_steps; i++) {
        p->weight[i] = weight[i];
        if (weight[i] < 0 || weight[i] > 100 || (i > 0 && weight[i] >= weight[i - 1]))
            return no(why, size, "`steps` must fall from 100%% at most to 0%%");
    }
    if (p->weight[p->n_steps - 1] != 0)
        return no(why, size, "the last of `steps` must be 0%%");
    return 0;
}

static int restore(struct rollback_plan *p, const struct rollback_lineage *l)
{
    p->data = ROLLBACK_DATA_RESTORE;
    memcpy(p->snapshot, l->snapshot, sizeof p->snapshot);
    return 0;
}

/* By its id, or the beginning of it. */
static const struct rollback_lineage *named(const struct rollback_doc *d, const char *id)
{
    size_t len = strlen(id);
    for (size_t i = 0; i < d->n_lineage; i++)
        if (strcmp(d->lineage[i].snapshot, id) == 0 || (len >= 8 && strncmp(d->lineage[i].snapshot, id, len) == 0))
            return &d->lineage[i];
    return NULL;
}

/* Can the target read what would be restored? */
static int readable(const struct rollback_lineage *l, const struct rollback_version *to,
                    const struct rollback_order *o, char *why, size_t size)
{
    if (!l->verified && !o->force)
        return no(why, size, "snapshot %.12s was never verified: choose another, or force it with a reason",
                  l->snapshot);
    if (l->data_schema > 0 && to->data_schema > 0 && l->data_schema > to->data_schema && !o->force)
        return no(why, size,
                  "snapshot %.12s has data schema %lld, and %s reads %lld at most: choose an older one (lineage "
                  "shows them), or force it with a reason",
                  l->snapshot, (long long)l->data_schema, to->name, (long long)to->data_schema);
    return 0;
}

static int restore_asked(const struct rollback_doc *d, const struct rollback_order *o,
                         const struct rollback_version *to, struct rollback_plan *p, char *why, size_t size)
{
    const struct rollback_lineage *l;
    if (strcmp(o->snapshot, "lineage") == 0) {
        l = rollback_snapshot_of(d, to->id, INT64_MAX);
        if (!l)
            return no(why, size,
                      "there is no verified snapshot of %s's own: name another (lineage shows them), or keep the "
                      "data",
                      to->name);
    } else {
        l = named(d, o->snapshot);
        if (!l)
            return no(why, size, "no snapshot `%.64s` is known: lineage shows those that are", o->snapshot);
    }
    return readable(l, to, o, why, size) ? -1 : restore(p, l);
}

static int restore_untainted(const struct rollback_doc *d, const struct rollback_order *o,
                             const struct rollback_version *to, struct rollback_plan *p, char *why, size_t size)
{
    if (o->tainted_since_ms <= 0)
        return no(why, size, "since when are the data not to be trusted? Give the time");
    const struct rollback_lineage *l = rollback_snapshot_of(d, NULL, o->tainted_since_ms);
    if (!l)
        return no(why, size,
                  "there is no verified snapshot from before the data were tainted: give an earlier time or a "
                  "snapshot, or keep the data");
    return readable(l, to, o, why, size) ? -1 : restore(p, l);
}

static int plan_data(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_order *o,
                     const struct rollback_version *from, const struct rollback_version *to, struct rollback_plan *p,
                     char *why, size_t size)
{
    bool asked = o->snapshot && *o->snapshot;
    p->data = ROLLBACK_DATA_NONE;
    if (!rule->has_data)
        return asked || o->tainted ? no(why, size,
                                        "this deployment has no learning data in the settings (`data`): there is "
                                        "nothing to restore")
                                   : 0;
    if (asked && o->tainted)
        return no(why, size, "give a snapshot, or since when the data are tainted; not both");
    if (asked)
        return restore_asked(d, o, to, p, why, size);
    if (o->tainted)
        return restore_untainted(d, o, to, p, why, size);
    p->data = ROLLBACK_DATA_KEEP;
    if (!from || from->data_schema <= 0 || to->data_schema <= 0 || to->data_schema >= from->data_schema)
        return 0;
    if (rule->has_migration) {
        p->data = ROLLBACK_DATA_MIGRATE;
        return 0;
    }
    const struct rollback_lineage *l = rollback_snapshot_of(d, to->id, INT64_MAX);
    if (!l)
        return no(why, size,
                  "%s reads data schema %lld, the data have %lld, there is no `migrate` command and no snapshot of "
                  "%s's own: name a snapshot (lineage shows them), or give the command",
                  to->name, (long long)to->data_schema, (long long)from->data_schema, to->name);
    return readable(l, to, o, why, size) ? -1 : restore(p, l);
}

int rollback_make_plan(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_order *o,
                       unsigned instances, struct rollback_plan *ret, char *why, size_t size)
{
    struct rollback_plan p = {.instances = instances};
    const struct rollback_version *to = rollback_choose(d, rule, o->to ? o->to : "", o->force, why, size),
                                  *from = NULL;
    if (!to)
        return -1;
    for (size_t i = 0; i < d->n_versions; i++)
        if (strcmp(d->versions[i].id, d->current) == 0)
            from = &d->versions[i];
    if (make_steps(rule, &p, why, size) != 0 || plan_data(d, rule, o, from, to, &p, why, size) != 0)
        return -1;
    *ret = p;
    return 0;
}

/* ---- in words ---- */

static void duration(int64_t ms, char buf[32])
{
    if (ms % 60000 == 0 && ms >= 120000)
        snprintf(buf, 32, "%lld min", (long long)(ms / 60000));
    else if (ms % 1000 == 0)
        snprintf(buf, 32, "%lld s", (long long)(ms / 1000));
    else
        snprintf(buf, 32, "%lld ms", (long long)ms);
}

static void data_line(const struct rollback_plan *p, const char *from, char *buf, size_t size)
{
    switch (p->data) {
    case ROLLBACK_DATA_KEEP:
        snprintf(buf, size,
                 "Learning data: learning pauses while they are saved and verified; then they are kept as they are.");
        break;
    case ROLLBACK_DATA_RESTORE:
        snprintf(buf, size,
                 "Learning data: saved and verified, then snapshot %.12s is put back; learning pauses until %s is "
                 "stopped. What is replaced is kept.",
                 p->snapshot, from);
        break;
    case ROLLBACK_DATA_MIGRATE:
        snprintf(buf, size,
                 "Learning data: saved and verified, then migrated down by %s; learning pauses until it is stopped.",
                 from);
        break;
    default:
        snprintf(buf, size, "Learning data: none are known; nothing is saved.");
    }
}

static void step_line(const struct rollback_rule *rule, const struct rollback_plan *p, const char *from,
                      const char *to, size_t i, char *buf, size_t size)
{
    char step[32];
    duration(rule->step_ms, step);
    unsigned needs = rollback_needs(p, p->weight[i]);
    char capacity[96] = "";
    if (p->instances > 0 && needs > 0)
        snprintf(capacity, sizeof capacity, "once %u of %u instances of it are ready: ", needs, p->instances);
    snprintf(buf, size, "Step %zu of %zu: %s%d %% stays on %s, %d %% goes to %.128s; read back, observed for %s.",
             i + 1, p->n_steps, capacity, p->weight[i], from, 100 - p->weight[i], to, step);
}

enum last_line { LINE_DRAIN, LINE_STOP, LINE_VERIFY, LINE_WATCHERS, LINE_END, LAST_LINES };

static bool last_line(const struct rollback_rule *rule, enum last_line i, const char *from, const char *to, char *buf,
                      size_t size)
{
    char drain[32], watch[32];
    duration(rule->drain_ms, drain);
    duration(rule->watch_ms, watch);
    switch (i) {
    case LINE_DRAIN:
        snprintf(buf, size, "%s gets nothing new; what it has in hand has %s to end.", from, drain);
        return true;
    case LINE_STOP:
        snprintf(buf, size, "%s is stopped, and stays there to go back to.", from);
        return true;
    case LINE_VERIFY:
        snprintf(buf, size, "All checks of %s, then it is watched for %s.", to, watch);
        return true;
    case LINE_WATCHERS:
        if (rule->judge.n > 0)
            snprintf(buf, size,
                     "A regression, or a check without data, holds it where it is; then a person decides.");
        else
            snprintf(buf, size, "There are no checks in the settings: only whether instances are ready is watched.");
        return true;
    case LINE_END:
        snprintf(buf, size, "Only then what is left of %s is removed; its data, volumes and image are not.", from);
        return true;
    default:
        return false;
    }
}

bool rollback_plan_line(const struct rollback_doc *d, const struct rollback_rule *rule, const struct rollback_plan *p,
                        const char *from, const char *to, size_t i, char *buf, size_t size)
{
    const char *a = rollback_name(d, from), *b = rollback_name(d, to);
    char instances[48] = "";
    if (p->instances > 0)
        snprintf(instances, sizeof instances, ", %u instance%s", p->instances, p->instances == 1 ? "" : "s");
    if (i == 0) {
        snprintf(buf, size, "%s: from %s to %s%s. Before anything is changed: is it possible?", d->deployment, a, b,
                 instances);
        return true;
    }
    if (i == 1) {
        data_line(p, a, buf, size);
        return true;
    }
    i -= 2;
    if (!rule->gradual) {
        if (i == 0) {
            snprintf(buf, size, "%s replaces %s all at once, as the executor does it, and must be ready.", b, a);
            return true;
        }
        return last_line(rule, (enum last_line)(LINE_VERIFY + i - 1), a, b, buf, size);
    }
    if (i == 0) {
        snprintf(buf, size, "%s is started beside %s, without traffic.", b, a);
        return true;
    }
    if (i <= p->n_steps) {
        step_line(rule, p, a, b, i - 1, buf, size);
        return true;
    }
    return last_line(rule, (enum last_line)(i - 1 - p->n_steps), a, b, buf, size);
}
