/* test_rollback_haproxy_plan.c - pure: which commands come of which state, in 20,000 random towns; and what HAProxy's words mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rollback/traffic_haproxy_plan.h"

#define RUNS 20000

static uint64_t seed, town; /* the number of the town is what a failure is found again by */
static unsigned below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % n);
}

static char names[2][TRAFFIC_SERVERS][8];
static char *lists[2][TRAFFIC_SERVERS];

static struct set_rb_traffic settings(size_t a, size_t b)
{
    for (size_t i = 0; i < TRAFFIC_SERVERS; i++)
        for (int s = 0; s < 2; s++) {
            snprintf(names[s][i], sizeof names[s][i], "s%d-%zu", s, i);
            lists[s][i] = names[s][i];
        }
    return (struct set_rb_traffic){.backend = (char *)(uintptr_t) "agents",
                                   .side_0 = {.items = lists[0], .n = a},
                                   .side_1 = {.items = lists[1], .n = b}};
}

/* HAProxy as far as commands reach: carries one out on h itself, and reads back what would be shown. */
static void obey(struct traffic_haproxy *h, const char *command)
{
    char name[64], rest[128], host[64];
    unsigned weight;
    int port;
    struct traffic_server *v = NULL;
    if (sscanf(command, "set %*[a-z] agents/%63s %127[^\n]", name, rest) != 2)
        fail_msg("not a command: %s", command);
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h->n[s]; i++)
            if (strcmp(h->server[s][i].name, name) == 0)
                v = &h->server[s][i];
    assert_non_null(v);
    if (strncmp(command, "set weight", 10) == 0 && sscanf(rest, "%u", &weight) == 1) {
        assert_true(weight <= 256);
        v->weight = weight;
    } else if (strcmp(rest, "state ready") == 0) {
        v->maint = v->drain = false;
    } else if (strcmp(rest, "state maint") == 0) {
        v->maint = true;
    } else if (sscanf(rest, "addr %63s port %d", host, &port) == 2) {
        snprintf(v->host, sizeof v->host, "%s", host);
        v->port = port;
    } else {
        fail_msg("not a command: %s", command);
    }
}

static unsigned total(const struct traffic_haproxy *h, int s)
{
    unsigned n = 0;
    for (size_t i = 0; i < h->n[s]; i++)
        n += h->server[s][i].maint || h->server[s][i].drain ? 0 : h->server[s][i].weight;
    return n;
}

static void one_town(void)
{
    struct traffic_haproxy h, was;
    struct traffic_wanted w;
    struct executor_instance at[EXECUTOR_INSTANCES];
    size_t servers[2] = {1 + below(8), 1 + below(8)}, n[2], k = 0;
    bool by_name = below(4) == 0;
    struct err e = {""};
    bool lasting;
    const struct set_rb_traffic set = settings(servers[0], servers[1]);
    traffic_haproxy_init(&h, &set);
    for (int s = 0; s < 2; s++) {
        n[s] = below((unsigned)servers[s] + 1);
        for (size_t i = 0; i < servers[s]; i++) {
            struct traffic_server *v = &h.server[s][i];
            v->there = true;
            v->maint = below(3) == 0;
            v->drain = !v->maint && below(6) == 0;
            v->weight = below(3) ? below(257) : 0;
            snprintf(v->host, sizeof v->host, "10.0.%d.%u", s, below(9));
            v->port = 80;
        }
        for (size_t i = 0; i < n[s]; i++, k++) {
            at[k] = (struct executor_instance){.side = s, .running = true, .ready = true};
            snprintf(at[k].address, sizeof at[k].address, "10.0.%d.%zu:80", s, i);
        }
    }
    int first = n[0] == 0 ? 0 : n[1] == 0 ? 100 : (int)below(101);
    const struct traffic_order o = {.share = {first, 100 - first}, .instances = at, .n = k, .name = {"b", "a"}};
    int wanted = traffic_haproxy_want(&h, &o, !by_name, &w, &e, &lasting);
    if (n[0] + n[1] == 0) {
        assert_int_equal(wanted, -1);
        return;
    }
    assert_int_equal(wanted, 0);
    char command[TRAFFIC_COMMAND_MAX];
    size_t count = 0;
    for (enum traffic_phase p = TRAFFIC_READY; p <= TRAFFIC_LOWER; p++) {
        if (p != TRAFFIC_LOWER)
            was =
                h; /* commands come of what was read last, as in life: after READY there is another look, after RAISE none */
        for (size_t i = 0; traffic_haproxy_command(&was, &w, p, &i, command); count++) {
            unsigned before[2] = {total(&h, 0), total(&h, 1)};
            obey(&h, command);
            /* A side never falls below what it is to have while the other is not up yet. */
            for (int s = 0; s < 2; s++)
                if (p != TRAFFIC_LOWER && total(&h, s) < before[s])
                    fail_msg("town %llu: `%s` takes traffic away too early", (unsigned long long)town, command);
            assert_true(count < 1000);
        }
    }
    for (int s = 0; s < 2; s++) {
        size_t used = 0;
        for (size_t i = 0; i < servers[s]; i++) {
            const struct traffic_server *v = &h.server[s][i];
            assert_int_equal(v->maint, !w.server[s][i].used);
            assert_int_equal(v->weight, w.server[s][i].weight);
            used += w.server[s][i].used;
            for (size_t q = 0; q < i && !by_name; q++) /* an instance is behind one server */
                assert_false(w.server[s][i].used && w.server[s][q].used && strcmp(v->host, h.server[s][q].host) == 0);
        }
        assert_int_equal(used, n[s]);
    }
    int share[2];
    traffic_haproxy_shares(&h, share);
    assert_int_equal(share[0], first);
    assert_int_equal(share[1], 100 - first);
    /* Asked for again, nothing is left to do. */
    assert_int_equal(traffic_haproxy_want(&h, &o, !by_name, &w, &e, &lasting), 0);
    for (enum traffic_phase p = TRAFFIC_READY; p <= TRAFFIC_LOWER; p++) {
        size_t i = 0;
        if (traffic_haproxy_command(&h, &w, p, &i, command))
            fail_msg("and again: %s", command);
    }
}

static void test_any_town(void **state)
{
    (void)state;
    for (town = 1; town <= RUNS; town++) {
        seed = town * UINT64_C(0x9e3779b97f4a7c15);
        one_town();
    }
}

/* What raised one side's share in a job's steps never has more than its share meanwhile. */
static void test_steps_do_not_overshoot(void **state)
{
    (void)state;
    static const int steps[] = {100, 50, 25, 10, 0};
    struct traffic_haproxy h, was;
    struct traffic_wanted w;
    struct err e;
    bool lasting;
    const struct set_rb_traffic set = settings(3, 2);
    struct executor_instance at[5] = {{.side = 0, .address = "10.0.0.1:80"},
                                      {.side = 0, .address = "10.0.0.2:80"},
                                      {.side = 0, .address = "10.0.0.3:80"},
                                      {.side = 1, .address = "10.0.1.1:80"},
                                      {.side = 1, .address = "10.0.1.2:80"}};
    for (size_t i = 0; i < 5; i++)
        at[i].running = at[i].ready = true;
    traffic_haproxy_init(&h, &set);
    for (int s = 0; s < 2; s++)
        for (size_t i = 0; i < h.n[s]; i++)
            h.server[s][i].there = h.server[s][i].maint = true;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct traffic_order o = {
            .share = {steps[i], 100 - steps[i]}, .instances = at, .n = 5, .name = {"v2", "v1"}};
        char command[TRAFFIC_COMMAND_MAX];
        int share[2];
        assert_int_equal(traffic_haproxy_want(&h, &o, true, &w, &e, &lasting), 0);
        for (enum traffic_phase p = TRAFFIC_READY; p <= TRAFFIC_LOWER; p++) {
            if (p != TRAFFIC_LOWER)
                was = h;
            for (size_t k = 0; traffic_haproxy_command(&was, &w, p, &k, command);) {
                obey(&h, command);
                traffic_haproxy_shares(&h, share);
                assert_true(share[1] <= 100 - steps[i]);
            }
        }
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    struct traffic_haproxy h;
    struct traffic_wanted w;
    struct err e;
    bool lasting;
    const struct set_rb_traffic set = settings(1, 1);
    struct executor_instance at[2] = {{.side = 0, .running = true, .ready = true, .address = "10.0.0.1:80"},
                                      {.side = 1, .running = true, .ready = false, .address = "10.0.1.1:80"}};
    struct traffic_order o = {.share = {50, 50}, .instances = at, .n = 2, .name = {"v2", "v1"}};
    traffic_haproxy_init(&h, &set);
    h.server[0][0] =
        (struct traffic_server){.name = "s0-0", .there = true, .host = "10.0.0.1", .port = 80, .weight = 200};
    h.server[1][0] = (struct traffic_server){.name = "s1-0", .there = true, .maint = true};
    assert_int_equal(traffic_haproxy_want(&h, &o, true, &w, &e, &lasting), -1);
    assert_non_null(strstr(e.text, "no instance of v1 is ready"));
    assert_false(lasting);
    /* What has lost its readiness keeps what it has, or less. */
    h.server[1][0] =
        (struct traffic_server){.name = "s1-0", .there = true, .host = "10.0.1.1", .port = 80, .weight = 200};
    o.share[0] = 75, o.share[1] = 25;
    assert_int_equal(traffic_haproxy_want(&h, &o, true, &w, &e, &lasting), 0);
    assert_int_equal(w.server[1][0].weight, 50);
    /* More instances than servers, and no address. */
    at[1].side = 0, at[1].ready = true;
    o.share[0] = 100, o.share[1] = 0;
    assert_int_equal(traffic_haproxy_want(&h, &o, true, &w, &e, &lasting), -1);
    assert_true(lasting);
    assert_non_null(strstr(e.text, "add servers"));
    at[1].side = 1, at[1].address[0] = '\0';
    assert_int_equal(traffic_haproxy_want(&h, &o, true, &w, &e, &lasting), -1);
    assert_true(lasting);
    assert_non_null(strstr(e.text, "set_address: false"));
    /* By name no address is needed. */
    assert_int_equal(traffic_haproxy_want(&h, &o, false, &w, &e, &lasting), 0);
    /* Down: not raised; lowered all the same. */
    o.share[0] = 0, o.share[1] = 100;
    assert_int_equal(traffic_haproxy_want(&h, &o, false, &w, &e, &lasting), 0);
    h.server[1][0].weight = 0;
    h.server[1][0].down = true;
    assert_false(traffic_haproxy_able(&h, &w, &e));
    assert_non_null(strstr(e.text, "for down"));
    h.server[1][0].weight = 256;
    assert_true(traffic_haproxy_able(&h, &w, &e));
}

static void test_words(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *words;
        bool lasting;
    } rows[] = {
        {"Permission denied\n\n", "level admin", true},
        {"\n\nNo such server.\n\n", "traffic.side_0", true},
        {"No such backend.\n\n", "traffic.backend", true},
        {"\nBackend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n\n",
         "balance roundrobin", true},
        {"Invalid addr 'x' by 'stats socket command'\n\n", "set_address: false", true},
        {"Something new.\n\n", "HAProxy says: Something new.", true},
    };
    struct err e;
    bool lasting;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(traffic_haproxy_said(rows[i].answer, &e, &lasting), -1);
        if (!strstr(e.text, rows[i].words))
            fail_msg("%s: %s", rows[i].answer, e.text);
        assert_int_equal(lasting, rows[i].lasting);
    }
    assert_int_equal(traffic_haproxy_said("\n\n", &e, &lasting), 0);
    assert_int_equal(
        traffic_haproxy_said("no need to change the addr, port changed from '9' to '5' by 'x'\n\n\n", &e, &lasting),
        0);
    assert_int_equal(traffic_haproxy_said("IP changed from '127.0.0.1' to '::1', port changed\n\n", &e, &lasting), 0);
}

static void test_reading(void **state)
{
    (void)state;
    static const char answer[] =
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port\n"
        "3 agents 1 s0-0 10.0.0.1 2 0 150 100 80\n3 agents 2 s1-0 10.0.1.1 0 5 50 0 80\n3 agents 3 s1-1 10.0.1.2 0 0 "
        "50 0 81\n"
        "3 agents 4 other 10.0.1.3 2 0 1 1 81\n\n"
        "# pxname,svname,qcur,qmax,scur,smax,check_desc,algo,\nagents,s0-0,0,0,7,9,\"a, \"\"b\"\"\",,\n"
        "agents,BACKEND,0,0,0,0,,roundrobin,\n\n";
    struct traffic_haproxy h;
    struct err e;
    bool lasting;
    int share[2];
    const struct set_rb_traffic set = settings(1, 2);
    traffic_haproxy_init(&h, &set);
    assert_int_equal(traffic_haproxy_read(&h, answer, &e, &lasting), 0);
    assert_string_equal(h.algorithm, "roundrobin");
    assert_string_equal(h.stranger, "other");
    assert_int_equal(h.server[0][0].sessions, 7);
    assert_int_equal(h.server[0][0].weight, 150);
    assert_true(h.server[1][0].maint && !h.server[1][0].down);
    assert_true(h.server[1][1].down && !h.server[1][1].maint);
    assert_int_equal(h.server[1][1].port, 81);
    traffic_haproxy_shares(&h, share);
    assert_int_equal(share[0], 75);
    assert_int_equal(share[1], 25);
    /* Any piece of it: no crash, and an answer or words. */
    for (size_t n = 0; n < sizeof answer; n++) {
        char *cut = strndup(answer, n);
        if (traffic_haproxy_read(&h, cut, &e, &lasting) < 0)
            assert_true(*e.text);
        free(cut);
    }
    static const char *const foreign[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "", "-ERR unknown command\r\n", "\n"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        assert_int_equal(traffic_haproxy_read(&h, foreign[i], &e, &lasting), -1);
        assert_non_null(strstr(e.text, "not HAProxy's runtime API"));
    }
    assert_int_equal(traffic_haproxy_read(&h, "Can't find backend.\n\n", &e, &lasting), -1);
    assert_non_null(strstr(e.text, "traffic.backend"));
    const struct set_rb_traffic more = settings(2, 2);
    traffic_haproxy_init(&h, &more);
    assert_int_equal(traffic_haproxy_read(&h, answer, &e, &lasting), -1);
    assert_non_null(strstr(e.text, "has no server s0-1"));
    assert_true(lasting);
}

/* Weight at an address where nothing of its side stands is nobody's, while somebody of that side waits for it. */
static void test_found(void **unused)
{
    (void)unused;
    static const struct {
        const char *server[2], *instance[2]; /* of side 1 */
        bool ready[2];
        int share, nobody;
    } rows[] = {
        {{"10.0.0.1", "10.0.0.2"}, {"10.0.0.1:80", "10.0.0.2:80"}, {true, true}, 60, 0},
        {{"10.0.0.9", "10.0.0.2"}, {"10.0.0.1:80", "10.0.0.2:80"}, {true, true}, 30, 30}, /* one has moved */
        {{"10.0.0.9", "10.0.0.8"}, {"10.0.0.1:80", "10.0.0.2:80"}, {true, true}, 0, 60},
        {{"10.0.0.9", "10.0.0.2"},
         {"10.0.0.1:80", "10.0.0.2:80"},
         {false, true},
         60,
         0},                                                                          /* it would not be sent to */
        {{"10.0.0.9", "10.0.0.2"}, {"", "10.0.0.2:80"}, {false, true}, 60, 0},        /* it has died */
        {{"10.0.0.9", "10.0.0.8"}, {"agent:80", "10.0.0.2:80"}, {true, true}, 60, 0}, /* names say nothing */
        {{"fe80:0:0:0:0:0:0:1", "10.0.0.2"}, {"[fe80::1]:80", "10.0.0.2:80"}, {true, true}, 60, 0},
    };
    const struct set_rb_traffic set = settings(1, 2);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct traffic_haproxy h;
        struct executor_instance at[2];
        int share[2], nobody;
        traffic_haproxy_init(&h, &set);
        h.server[0][0] =
            (struct traffic_server){.name = "s0-0", .there = true, .host = "10.1.1.1", .port = 80, .weight = 80};
        for (int k = 0; k < 2; k++) {
            struct traffic_server *v = &h.server[1][k];
            *v = (struct traffic_server){.name = v->name, .there = true, .port = 80, .weight = 60};
            snprintf(v->host, sizeof v->host, "%s", rows[i].server[k]);
            at[k] = (struct executor_instance){.side = 1, .ready = rows[i].ready[k]};
            snprintf(at[k].address, sizeof at[k].address, "%s", rows[i].instance[k]);
            at[k].running = at[k].address[0];
        }
        traffic_haproxy_found(&h, at, 2, share, &nobody);
        assert_int_equal(share[0], 40);
        assert_int_equal(share[1], rows[i].share);
        assert_int_equal(nobody, rows[i].nobody);
        traffic_haproxy_found(&h, NULL, 0, share, &nobody); /* not compared */
        assert_int_equal(share[1], 60);
        assert_int_equal(nobody, 0);
        h.server[0][0].weight = h.server[1][0].weight = h.server[1][1].weight = 0;
        traffic_haproxy_found(&h, at, 2, share, &nobody);
        assert_int_equal(nobody, 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_any_town),
        cmocka_unit_test(test_steps_do_not_overshoot),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
