/* test_client_gate.c - which directives reach the agent: every case, and a seeded storm of them. */
#include "client/client_gate.h"
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define LEASE 1000

static void in_order_and_once(void **state)
{
    (void)state;
    struct client_gate g;
    client_gate_init(&g, 0);
    client_gate_up(&g);
    assert_int_equal(client_gate_directive(&g, 3, true), CLIENT_GIVE);
    assert_int_equal(client_gate_directive(&g, 3, true), CLIENT_NOTHING); /* the resync's replay */
    assert_int_equal(client_gate_directive(&g, 3, false), CLIENT_ACK_AGAIN);
    assert_int_equal(client_gate_directive(&g, 3, false), CLIENT_ACK_AGAIN); /* each time that it is asked */
    assert_int_equal(client_gate_directive(&g, 5, false), CLIENT_GIVE);      /* none in between is needed */
    assert_int_equal(client_gate_directive(&g, 4, false), CLIENT_IGNORE_OLD);
    assert_int_equal(client_gate_directive(&g, 3, true), CLIENT_IGNORE_OLD);
    assert_int_equal(client_gate_synced(&g), CLIENT_NOTHING);
    client_gate_down(&g, 100);
    client_gate_up(&g);
    assert_int_equal(client_gate_directive(&g, 5, true), CLIENT_ACK_AGAIN); /* once after a reconnect */
    assert_int_equal(client_gate_directive(&g, 5, true), CLIENT_NOTHING);
}

static void out_of_touch(void **state)
{
    (void)state;
    struct client_gate g;
    client_gate_init(&g, 0);
    assert_int_equal(client_gate_lease(&g, LEASE - 1, LEASE), CLIENT_NOTHING);
    assert_int_equal(client_gate_lease(&g, LEASE, LEASE), CLIENT_FREEZE); /* never connected */
    assert_int_equal(client_gate_lease(&g, LEASE * 9, LEASE), CLIENT_NOTHING);
    client_gate_up(&g);
    assert_int_equal(client_gate_synced(&g), CLIENT_NOTHING); /* nothing is known: stay frozen */
    assert_int_equal(client_gate_directive(&g, 1, true), CLIENT_GIVE);
    client_gate_down(&g, 5000);
    client_gate_down(&g, 5500); /* said twice: counts from the first */
    assert_int_equal(client_gate_lease(&g, 5900, LEASE), CLIENT_NOTHING);
    client_gate_up(&g); /* short: nothing happened */
    assert_int_equal(client_gate_lease(&g, 9000, LEASE), CLIENT_NOTHING);
    client_gate_down(&g, 10000);
    assert_int_equal(client_gate_lease(&g, 11000, LEASE), CLIENT_FREEZE);
    client_gate_up(&g);
    assert_int_equal(client_gate_directive(&g, 1, true), CLIENT_GIVE); /* the last one again */
    assert_int_equal(client_gate_directive(&g, 1, false), CLIENT_ACK_AGAIN);
    client_gate_down(&g, 20000);
    assert_int_equal(client_gate_lease(&g, 21000, LEASE), CLIENT_FREEZE);
    client_gate_up(&g);
    assert_int_equal(client_gate_synced(&g), CLIENT_GIVE); /* the stream had nothing: from memory */
    assert_int_equal(client_gate_synced(&g), CLIENT_NOTHING);
    client_gate_down(&g, 30000);
    assert_int_equal(client_gate_lease(&g, 31000, LEASE), CLIENT_FREEZE);
    client_gate_up(&g);
    assert_int_equal(client_gate_directive(&g, 7, true),
                     CLIENT_GIVE); /* newer: the last one is not given in between */
    assert_int_equal(client_gate_synced(&g), CLIENT_NOTHING);
}

static void storm(void **state)
{
    (void)state;
    unsigned seed = (unsigned)time(NULL);
    const char *fixed = getenv("SEED");
    if (fixed)
        seed = (unsigned)strtoul(fixed, NULL, 10);
    srand(seed);
    struct client_gate g;
    client_gate_init(&g, 0);
    uint64_t last_given = 0, newest = 1;
    int64_t now = 0;
    bool frozen = false;
    for (int i = 0; i < 1000000; i++) {
        enum client_act a = CLIENT_NOTHING;
        uint64_t epoch = 0;
        now += rand() % 200;
        switch (rand() % 6) {
        case 0:
            client_gate_up(&g);
            break;
        case 1:
            client_gate_down(&g, now);
            break;
        case 2:
            a = client_gate_lease(&g, now, LEASE);
            break;
        case 3:
            a = client_gate_synced(&g);
            epoch = last_given;
            break;
        default:
            if (!g.up)
                break;
            newest += (uint64_t)(rand() % 2);
            epoch = newest - (uint64_t)(rand() % (int)(newest < 4 ? newest : 4));
            if (epoch == 0)
                break;
            a = client_gate_directive(&g, epoch, rand() % 2);
        }
        bool ok = true;
        if (a == CLIENT_GIVE) {
            ok = epoch > last_given || (epoch == last_given && frozen);
            last_given = epoch;
            frozen = false;
        } else if (a == CLIENT_FREEZE) {
            ok = !frozen && !g.up;
            frozen = true;
        } else if (a == CLIENT_IGNORE_OLD) {
            ok = epoch < last_given;
        } else if (a == CLIENT_ACK_AGAIN) {
            ok = epoch == last_given && !frozen;
        }
        if (!ok) {
            print_error("step %d, seed %u, epoch %" PRIu64 " after %" PRIu64 ", act %d\n", i, seed, epoch, last_given,
                        (int)a);
            fail();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_order_and_once), cmocka_unit_test(out_of_touch),
                                       cmocka_unit_test(storm)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
