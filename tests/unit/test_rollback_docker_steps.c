/* test_rollback_docker_steps.c - from whatever stands to what is wanted, by the pure steps, in made-up engines by seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those before it. */
#include "rollback/docker_steps.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 300
#define OLD   "aaaaaaaaaaaaaaaa"
#define NEW   "bbbbbbbbbbbbbbbb"

struct engine {
    struct docker_container c[EXECUTOR_INSTANCES];
    size_t n;
    unsigned made, seed;
    json_t *spec;
};

static unsigned pick(struct engine *e, unsigned below)
{
    e->seed = e->seed * 1103515245U + 12345U;
    return (e->seed >> 16) % below;
}

static struct docker_container *add(struct engine *e, const char *name, const char *version, int side, unsigned index,
                                    bool ours, bool running)
{
    struct docker_container *c = &e->c[e->n++];
    assert_true(e->n < EXECUTOR_INSTANCES);
    *c = (struct docker_container){.ours = ours, .index = index};
    snprintf(c->i.handle, sizeof c->i.handle, "%064x", ++e->made);
    snprintf(c->i.name, sizeof c->i.name, "%s", name);
    snprintf(c->home, sizeof c->home, "%s", name);
    snprintf(c->v.id, sizeof c->v.id, "%s", version);
    snprintf(c->policy, sizeof c->policy, "always");
    snprintf(c->finished, sizeof c->finished, "%u", e->made);
    c->i.side = side;
    c->i.running = running;
    c->inspect = json_pack("{s{s{s{}}}}", "NetworkSettings", "Networks", "n1");
    c->spec = json_pack("{s{ss}}", "Unnamed", "/d", c->i.handle);
    return c;
}

static void drop(struct engine *e, size_t at)
{
    docker_container_done(&e->c[at]);
    memmove(&e->c[at], &e->c[at + 1], (--e->n - at) * sizeof e->c[0]);
}

static void done(struct engine *e)
{
    while (e->n > 0)
        drop(e, 0);
    json_decref(e->spec);
}

static json_t *list_of(const struct engine *e)
{
    json_t *l = json_array();
    for (size_t i = 0; i < e->n; i++) {
        char name[160];
        snprintf(name, sizeof name, "/%s", e->c[i].i.name);
        json_array_append_new(l, json_pack("{ss s[s] s{}}", "Id", e->c[i].i.handle, "Names", name, "Labels"));
    }
    return l;
}

static size_t find(const struct engine *e, const char *id)
{
    size_t i = 0;
    while (i < e->n && strcmp(e->c[i].i.handle, id) != 0)
        i++;
    assert_true(i < e->n);
    return i;
}

static bool meant(const struct docker_aim *a, const struct docker_container *c)
{
    return c->i.side == a->side && strcmp(c->v.id, a->version) == 0;
}

/* As the engine does it; what an engine would refuse is a bug of the steps. */
static void take(struct engine *e, struct docker_aim *a, const struct docker_step *s)
{
    struct docker_container *c = s->act == DOCKER_CREATE ? NULL : &e->c[find(e, s->id)];
    bool starts = a->goal == DOCKER_GOAL_UP || a->goal == DOCKER_GOAL_START;
    switch (s->act) {
    case DOCKER_CREATE:
        assert_true(starts);
        c = add(e, s->name, a->version, a->side, s->index, true, false);
        snprintf(c->home, sizeof c->home, "%s", s->home);
        c->fresh = true;
        break;
    case DOCKER_CONNECT:
        assert_true(c->fresh && meant(a, c));
        json_object_set_new(json_object_get(json_object_get(c->inspect, "NetworkSettings"), "Networks"), s->network,
                            json_object());
        break;
    case DOCKER_START:
        assert_true(starts && meant(a, c) && !c->i.running);
        assert_true(
            !c->fresh || !c->ours ||
            json_object_get(json_object_get(json_object_get(c->inspect, "NetworkSettings"), "Networks"), "n2"));
        c->i.running = true;
        c->fresh = false;
        snprintf(a->started[a->n_started++], DOCKER_ID, "%s", s->id);
        break;
    case DOCKER_STOP:
        assert_true(!starts && meant(a, c) && c->i.running && strcmp(c->policy, "unless-stopped") == 0);
        c->i.running = false;
        break;
    case DOCKER_RENAME:
        assert_int_equal(a->goal, DOCKER_GOAL_SETTLED);
        assert_true(meant(a, c) || !c->i.running);
        for (size_t i = 0; i < e->n; i++)
            assert_string_not_equal(e->c[i].i.name, s->name);
        snprintf(c->i.name, sizeof c->i.name, "%s", s->name);
        break;
    case DOCKER_POLICY:
        assert_true(meant(a, c));
        snprintf(c->policy, sizeof c->policy, "%s", docker_text(s->policy, "Name"));
        break;
    case DOCKER_REMOVE:
        assert_true(a->goal == DOCKER_GOAL_REMOVED && meant(a, c) && !c->i.running);
        drop(e, find(e, s->id));
        break;
    default:
        fail();
    }
}

/* DOCKER_DONE or DOCKER_REFUSE. The service is lost now and then: it then knows nothing of what it has started. */
static enum docker_act reach(struct engine *e, struct docker_aim *a)
{
    for (unsigned k = 0; k < 200; k++) {
        struct docker_step s;
        json_t *list = list_of(e);
        struct docker_sight sight = {.ok = true, .c = e->c, .n = e->n, .list = list};
        docker_next(a, &sight, &s);
        if (s.act != DOCKER_DONE && s.act != DOCKER_REFUSE)
            take(e, a, &s);
        json_decref(list);
        json_decref(s.policy);
        if (s.act == DOCKER_DONE || s.act == DOCKER_REFUSE)
            return s.act;
        if (pick(e, 4) == 0)
            a->n_started = 0;
    }
    fail_msg("seed %u: no end", e->seed);
    return DOCKER_REFUSE;
}

static unsigned count(const struct engine *e, const char *version, int side, bool running)
{
    unsigned n = 0;
    for (size_t i = 0; i < e->n; i++)
        n += e->c[i].i.side == side && strcmp(e->c[i].v.id, version) == 0 && (!running || e->c[i].i.running);
    return n;
}

static void whole_way(unsigned seed)
{
    struct engine e = {.seed = seed,
                       .spec = json_pack("{s{s{ss}} s{s{} s{}} s{ss}}", "HostConfig", "RestartPolicy", "Name",
                                         "always", "Networks", "n1", "n2", "Unnamed", "/d", "recorded")};
    struct set_deployment set = {.name = "mcp", .docker = {.container = "", .project = "town", .service = "agent"}};
    unsigned n = 1 + pick(&e, 4), have = pick(&e, n + 1);
    char name[64];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "town-agent-%u", i + 1);
        add(&e, name, OLD, 0, i, false, true);
    }
    struct docker_aim to = {.set = &set, .job = "job", .version = NEW, .side = 1, .count = n, .spec = e.spec},
                      from = to;
    from.version = OLD;
    from.side = 0;
    for (unsigned i = 0; i < have; i++) { /* what a job before has left, in any state */
        struct docker_container *c = add(&e, "", NEW, 1, i, true, pick(&e, 2));
        snprintf(c->i.name, sizeof c->i.name, "left-%u", i);
        snprintf(c->home, sizeof c->home, "town-agent-%u", i + 1);
    }
    to.goal = DOCKER_GOAL_UP;
    assert_int_equal(reach(&e, &to), DOCKER_DONE);
    assert_int_equal(count(&e, NEW, 1, true), n);
    assert_int_equal(count(&e, NEW, 1, false), n);
    assert_int_equal(count(&e, OLD, 0, true), n);
    from.goal = DOCKER_GOAL_REMOVED;
    assert_int_equal(reach(&e, &from), DOCKER_REFUSE); /* it runs, and others have made it */
    to.goal = DOCKER_GOAL_SETTLED;
    assert_int_equal(reach(&e, &to), DOCKER_REFUSE);
    from.goal = DOCKER_GOAL_STOPPED;
    assert_int_equal(reach(&e, &from), DOCKER_DONE);
    assert_int_equal(count(&e, OLD, 0, true), 0);
    from.goal = DOCKER_GOAL_START;
    assert_int_equal(reach(&e, &from), DOCKER_DONE);
    assert_int_equal(count(&e, OLD, 0, true), n);
    from.goal = DOCKER_GOAL_STOPPED;
    assert_int_equal(reach(&e, &from), DOCKER_DONE);
    if (pick(&e, 2)) {
        to.goal = DOCKER_GOAL_SETTLED;
        assert_int_equal(reach(&e, &to), DOCKER_DONE);
    }
    from.goal = DOCKER_GOAL_REMOVED;
    assert_int_equal(reach(&e, &from), DOCKER_DONE);
    to.goal = DOCKER_GOAL_SETTLED;
    assert_int_equal(reach(&e, &to), DOCKER_DONE);
    assert_int_equal(e.n, n);
    for (size_t i = 0; i < e.n; i++)
        assert_true(strncmp(e.c[i].i.name, "town-agent-", 11) == 0 && e.c[i].i.running);
    done(&e);
}

static void ways(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= SEEDS; seed++)
        whole_way(seed);
}

/* One that ends as soon as it is started is started once by each act, and its volumes are those of the one whose place it takes. */
static void ends_at_once(void **state)
{
    (void)state;
    struct engine e = {.spec = json_pack("{s{} s{} s{ss}}", "HostConfig", "Networks", "Unnamed", "/d", "recorded")};
    struct set_deployment set = {.name = "mcp", .docker = {.container = "agent", .project = "", .service = ""}};
    struct docker_aim to = {.set = &set, .job = "job", .version = NEW, .side = 1, .count = 1, .spec = e.spec};
    struct docker_step s;
    json_t *list = json_array();
    struct docker_sight none = {.ok = true, .list = list};
    docker_next(&to, &none, &s);
    assert_int_equal(s.act, DOCKER_CREATE);
    assert_string_equal(s.home, "agent");
    assert_string_equal(docker_text(s.volumes, "/d"), "recorded");
    add(&e, "agent", OLD, 0, 0, false, true);
    struct docker_sight one = {.ok = true, .c = e.c, .n = e.n, .list = list};
    docker_next(&to, &one, &s);
    assert_string_equal(docker_text(s.volumes, "/d"), e.c[0].i.handle);
    struct docker_container *c = add(&e, "made", NEW, 1, 0, true, false);
    snprintf(to.started[to.n_started++], DOCKER_ID, "%s", c->i.handle);
    struct docker_sight two = {.ok = true, .c = e.c, .n = e.n, .list = list};
    docker_next(&to, &two, &s);
    assert_int_equal(s.act, DOCKER_REFUSE);
    assert_false(s.lasting);
    to.spec = NULL; /* nothing can be made without a record, and that is said */
    to.count = 2;
    to.n_started = 0;
    c->i.running = true;
    docker_next(&to, &two, &s);
    assert_int_equal(s.act, DOCKER_REFUSE);
    json_decref(list);
    done(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ways), cmocka_unit_test(ends_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
