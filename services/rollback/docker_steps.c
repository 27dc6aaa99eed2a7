/* docker_steps.c - the next thing to be done until what is wanted stands. Pure.
 *
 * A container that is stopped must not come back with the engine's next start, as `always` and `on-failure` have it: its policy becomes
 * `unless-stopped` first, and what the spec says when it is started again. */
#include "rollback/docker_steps.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char unless_stopped[] = "unless-stopped";

/* ---- words and names ---- */

__attribute__((format(printf, 3, 4))) static void refuse(struct docker_step *r, bool lasting, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof r->text, fmt, ap);
    va_end(ap);
    r->act = DOCKER_REFUSE;
    r->lasting = lasting;
}

static void on(struct docker_step *r, enum docker_act act, const struct docker_container *c)
{
    r->act = act;
    snprintf(r->id, sizeof r->id, "%s", c->i.handle);
}

static void base_name(const struct set_deployment *set, char *buf, size_t size)
{
    if (*set->docker.container)
        snprintf(buf, size, "%.80s", set->docker.container);
    else
        snprintf(buf, size, "%.40s-%.40s", set->docker.project, set->docker.service);
}

/* A job's id may be any text: eight digits of its hash stand for it. */
static const char *short_of(json_t *of, char buf[65])
{
    executor_config_hash(of, buf);
    buf[8] = '\0';
    json_decref(of);
    return buf;
}

const char *docker_instance_name(const struct docker_aim *aim, unsigned index, char *buf)
{
    char base[100], hash[65];
    base_name(aim->set, base, sizeof base);
    short_of(json_pack("[ssi]", aim->job, aim->version, aim->side), hash);
    snprintf(buf, 160, "%s-rb-%s-%u", base, hash, index + 1);
    return buf;
}

const char *docker_run_name(const struct docker_aim *aim, const char *const *argv, char *buf)
{
    char base[100], hash[65];
    json_t *of = json_pack("[ss]", aim->job, aim->version);
    for (; *argv; argv++)
        json_array_append_new(of, json_string(*argv));
    base_name(aim->set, base, sizeof base);
    snprintf(buf, 160, "%s-rb-run-%s", base, short_of(of, hash));
    return buf;
}

/* ---- who is meant ---- */

static bool meant(const struct docker_aim *aim, const struct docker_container *c)
{
    return c->i.side == aim->side && strcmp(c->v.id, aim->version) == 0;
}

/* The one whose place instance `index` takes: it runs rather than not. */
static const struct docker_container *former(const struct docker_aim *aim, const struct docker_sight *s,
                                             unsigned index)
{
    const struct docker_container *best = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const struct docker_container *c = &s->c[i];
        if (!meant(aim, c) && c->index == index && (!best || (c->i.running && !best->i.running)))
            best = c;
    }
    return best;
}

const json_t *docker_volumes_for(const struct docker_aim *aim, const struct docker_sight *s, unsigned index)
{
    const struct docker_container *f = former(aim, s, index);
    if (f)
        return json_object_get(f->spec, "Unnamed");
    return index == 0 ? json_object_get(aim->spec, "Unnamed") : NULL;
}

static void home_for(const struct docker_aim *aim, const struct docker_sight *s, unsigned index, char *buf,
                     size_t size)
{
    const struct docker_container *f = former(aim, s, index);
    char base[100];
    base_name(aim->set, base, sizeof base);
    if (f)
        snprintf(buf, size, "%s", f->home);
    else if (*aim->set->docker.container && index == 0)
        snprintf(buf, size, "%s", base);
    else
        snprintf(buf, size, "%s-%u", base, index + 1);
}

static const json_t *holder(const struct docker_sight *s, const char *name)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(s->list, i, entry)
    {
        if (strcmp(docker_entry_name(entry), name) == 0)
            return entry;
    }
    return NULL;
}

static const struct docker_container *by_id(const struct docker_sight *s, const char *id)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->c[i].i.handle, id) == 0)
            return &s->c[i];
    return NULL;
}

/* ---- up, start ---- */

/* What was made and not started yet may lack networks: it was cut short. */
static bool connect_fresh(const struct docker_aim *aim, const struct docker_container *c, struct docker_step *r)
{
    const json_t *there = json_object_get(json_object_get(c->inspect, "NetworkSettings"), "Networks"), *n;
    const char *name;
    if (!c->fresh || !c->ours || !aim->spec)
        return false;
    json_object_foreach((json_t *)json_object_get(aim->spec, "Networks"), name, n)
    {
        if (json_object_get(there, name))
            continue;
        on(r, DOCKER_CONNECT, c);
        snprintf(r->network, sizeof r->network, "%s", name);
        return true;
    }
    return false;
}

static bool was_started(const struct docker_aim *aim, const char *id)
{
    for (size_t i = 0; i < aim->n_started; i++)
        if (strcmp(aim->started[i], id) == 0)
            return true;
    return false;
}

static void start_one(const struct docker_aim *aim, const struct docker_container *c, struct docker_step *r)
{
    json_t *policy = json_object_get(json_object_get(aim->spec, "HostConfig"), "RestartPolicy");
    const char *name = docker_text(policy, "Name");
    if (was_started(aim, c->i.handle))
        refuse(r, false, "%s was started, and %s: see docker logs %s", c->i.name, c->i.why, c->i.name);
    else if (*name && strcmp(c->policy, unless_stopped) == 0 && strcmp(name, unless_stopped) != 0) {
        on(r, DOCKER_POLICY, c);
        r->policy = json_deep_copy(policy);
    } else {
        on(r, DOCKER_START, c);
    }
}

static bool index_free(const struct docker_aim *aim, const struct docker_sight *s, unsigned index)
{
    for (size_t i = 0; i < s->n; i++)
        if (meant(aim, &s->c[i]) && s->c[i].index == index)
            return false;
    return true;
}

static void create_one(const struct docker_aim *aim, const struct docker_sight *s, unsigned missing,
                       struct docker_step *r)
{
    unsigned index = 0;
    while (!index_free(aim, s, index))
        index++;
    if (!aim->spec) {
        refuse(r, false,
               "%u of %u containers of this version are not there any more, and how they are made is not known here",
               missing, aim->count);
        return;
    }
    docker_instance_name(aim, index, r->name);
    const json_t *other = holder(s, r->name);
    if (other && strcmp(docker_text(json_object_get(other, "Labels"), DOCKER_LABEL_JOB), aim->job) == 0) {
        refuse(r, false, "%s is being made or removed by the engine just now",
               r->name); /* by a call that was cut short */
        return;
    }
    if (other) {
        refuse(r, true, "the name %s is taken by a container that no rollback has made: docker rename %s OTHER",
               r->name, r->name);
        return;
    }
    r->act = DOCKER_CREATE;
    r->index = index;
    r->volumes = docker_volumes_for(aim, s, index);
    home_for(aim, s, index, r->home, sizeof r->home);
}

/* Which of those that do not run is started first: one that never was, then the one that ended last. */
static bool rather(const struct docker_container *a, const struct docker_container *b)
{
    return !b || (a->fresh != b->fresh ? a->fresh : strcmp(a->finished, b->finished) > 0);
}

static void next_up(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *r)
{
    const struct docker_container *best = NULL;
    unsigned all = 0, running = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct docker_container *c = &s->c[i];
        if (!meant(aim, c))
            continue;
        if (connect_fresh(aim, c, r))
            return;
        all++;
        running += c->i.running;
        if (!c->i.running && rather(c, best))
            best = c;
    }
    unsigned need = aim->count ? aim->count : aim->goal == DOCKER_GOAL_UP ? 1 : all;
    if (running >= need)
        return;
    if (best)
        start_one(aim, best, r);
    else
        create_one(aim, s, need - running, r);
}

/* ---- stop, remove ---- */

static void stop_one(const struct docker_container *c, struct docker_step *r)
{
    if (strcmp(c->policy, "always") == 0 || strcmp(c->policy, "on-failure") == 0) {
        on(r, DOCKER_POLICY, c);
        r->policy = json_pack("{ss}", "Name", unless_stopped);
    } else {
        on(r, DOCKER_STOP, c);
    }
}

static void next_stopped(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *r)
{
    for (size_t i = 0; i < s->n; i++)
        if (meant(aim, &s->c[i]) && s->c[i].i.running) {
            stop_one(&s->c[i], r);
            return;
        }
}

/* Commands that were run for a job are left there until now, so that their end is known. */
static bool remove_run(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *r)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(s->list, i, entry)
    {
        const json_t *labels = json_object_get(entry, "Labels");
        if (!*docker_text(labels, DOCKER_LABEL_RUN) ||
            strcmp(docker_text(labels, DOCKER_LABEL_OF), aim->set->name) != 0 ||
            (strcmp(docker_text(entry, "State"), "exited") != 0 &&
             strcmp(docker_text(entry, "State"), "created") != 0))
            continue;
        r->act = DOCKER_REMOVE;
        snprintf(r->id, sizeof r->id, "%s", docker_text(entry, "Id"));
        return true;
    }
    return false;
}

static void next_removed(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *r)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct docker_container *c = &s->c[i];
        if (!meant(aim, c))
            continue;
        if (!c->i.running)
            on(r, DOCKER_REMOVE, c);
        else if (c->ours)
            stop_one(c, r);
        else
            refuse(r, true, "%s runs, and no rollback has made it: stop it before it is removed", c->i.name);
        return;
    }
    remove_run(aim, s, r);
}

/* ---- settle ---- */

/* The name may be somebody's: one that is stopped makes way, one that runs does not. */
static void take_home(const struct docker_aim *aim, const struct docker_sight *s, const struct docker_container *c,
                      struct docker_step *r)
{
    const json_t *entry = holder(s, c->home);
    const struct docker_container *other = entry ? by_id(s, docker_text(entry, "Id")) : NULL;
    if (!entry) {
        on(r, DOCKER_RENAME, c);
        snprintf(r->name, sizeof r->name, "%s", c->home);
    } else if (!other) {
        refuse(r, true, "the name %s is taken by a container of somebody else: docker rename %s OTHER", c->home,
               c->home);
    } else if (other->i.running && !meant(aim, other)) {
        refuse(r, false, "%s still runs under the name that %s is to take: somebody has deployed meanwhile", c->home,
               c->i.name);
    } else if (!meant(aim, other)) {
        on(r, DOCKER_RENAME, other);
        docker_old_name(c->home, other->i.handle, r->name, sizeof r->name);
    }
}

static void next_settled(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *r)
{
    for (size_t i = 0; i < s->n && r->act == DOCKER_DONE; i++) {
        const struct docker_container *c = &s->c[i];
        if (meant(aim, c) && *c->home && strcmp(c->i.name, c->home) != 0)
            take_home(aim, s, c, r);
    }
}

void docker_next(const struct docker_aim *aim, const struct docker_sight *s, struct docker_step *ret)
{
    *ret = (struct docker_step){.act = DOCKER_DONE};
    switch (aim->goal) {
    case DOCKER_GOAL_UP:
    case DOCKER_GOAL_START:
        next_up(aim, s, ret);
        break;
    case DOCKER_GOAL_STOPPED:
        next_stopped(aim, s, ret);
        break;
    case DOCKER_GOAL_SETTLED:
        next_settled(aim, s, ret);
        break;
    default:
        next_removed(aim, s, ret);
    }
}
