/* test_common_order_said.c - what an order must say, and which verb it has, whichever way it came. */
#include "common/order.h"
#include "common/subjects.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void who_and_why_must_be_said(void **unused)
{
    (void)unused;
    static const struct {
        const char *by, *reason, *says; /* NULL = nothing is missing */
    } rows[] = {
        {"ann", "a test", NULL},          {"ann", NULL, NULL}, /* no reason is required */
        {"ann", "", "`reason` is empty"}, {"ann", " \t\r\n", "`reason` is empty"},
        {"", "a test", "`by` is empty"},  {" ", "", "`by` is empty"},
        {"\n", NULL, "`by` is empty"},    {" ann", " x ", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *unsaid = order_unsaid(rows[i].by, rows[i].reason);
        assert_int_equal(unsaid != NULL, rows[i].says != NULL);
        if (unsaid)
            assert_non_null(strstr(unsaid, rows[i].says));
    }
}

static void the_verb_is_the_same_both_ways(void **unused)
{
    (void)unused;
    /* The way to who acts may lie below the other one, or beside it. */
    static const struct order_way below = {.any = SUBJECT_CMD "room.", .acts = SUBJECT_CMD "room.leader."};
    static const struct order_way beside = {.any = SUBJECT_CMD "room.", .acts = SUBJECT_CMD "room-leader."};
    static const struct {
        const struct order_way *way;
        const char *subject, *verb;
    } rows[] = {
        {&below, SUBJECT_CMD "room.stop", "stop"},         {&below, SUBJECT_CMD "room.leader.stop", "stop"},
        {&below, SUBJECT_CMD "other.stop", NULL},          {&beside, SUBJECT_CMD "room.stop", "stop"},
        {&beside, SUBJECT_CMD "room-leader.stop", "stop"}, {&beside, SUBJECT_CMD "rooms.stop", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *verb = order_verb(rows[i].way, &(struct bus_msg){.subject = rows[i].subject});
        if (rows[i].verb)
            assert_string_equal(verb, rows[i].verb);
        else
            assert_null(verb);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_and_why_must_be_said),
        cmocka_unit_test(the_verb_is_the_same_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
