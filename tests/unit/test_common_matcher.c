/* test_common_matcher.c - which alerts are meant: every operator on every field, and what is refused. */
#include "common/matcher.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define N_OF(a) (sizeof(a) / sizeof(a)[0])

static PB(Label) labels[3];
static PB(Label) * list[3] = {&labels[0], &labels[1], &labels[2]};

static PB(Alert) alert(void)
{
    static const char *const keys[] = {"team", "zone.a", "team"}, *const values[] = {"web", "größe 7", "second"};
    PB(Alert) a = REDOUBT__V1__ALERT__INIT;
    for (size_t i = 0; i < 3; i++) {
        labels[i] = (PB(Label))REDOUBT__V1__LABEL__INIT;
        labels[i].key = (char *)keys[i];
        labels[i].value = (char *)values[i];
    }
    a.dedup_key = (char *)"breaker/llm.openai";
    a.severity = REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    a.source = (char *)"breaker";
    a.target = (char *)"llm.openai";
    a.failure_kind = REDOUBT__V1__FAILURE_KIND__FAILURE_KIND_LLM_OUTAGE;
    a.labels = list;
    a.n_labels = 3;
    return a;
}

static const struct {
    const char *text;
    bool fits;
} rows[] = {
    {"source=breaker", true},
    {"source=Breaker", false},
    {"source!=breaker", false},
    {"source!=guard", true},
    {"agent=", true}, /* it has none */
    {"agent!=", false},
    {"agent=~", true},
    {"agent=~.+", false},
    {"agent!~.+", true},
    {"target=~llm\\..*", true},
    {"target=~llm", false}, /* the whole value */
    {"target=~openai", false},
    {"target=~llm|llm.openai", true}, /* ... by whichever branch */
    {"target=~x|y", false},
    {"target!~llm\\..*", false},
    {"target!~llm", true},
    {"dedup_key=breaker/llm.openai", true},
    {"dedup_key=~breaker/.*", true},
    {"severity=high", true},
    {"severity=HIGH", true},
    {"severity!=high", false},
    {"severity=~high|critical", true},
    {"severity=~hig", false},
    {"severity!~hi.h", false},
    {"severity>=info", true},
    {"severity>=high", true},
    {"severity>=critical", false},
    {"severity<=High", true},
    {"severity<=warning", false},
    {"severity<=critical", true},
    {"severity=", false},
    {"failure_kind=llm_outage", true},
    {"failure_kind=LLM_OUTAGE", true},
    {"failure_kind=network", false},
    {"failure_kind=~llm_.*", true},
    {"failure_kind=", false},
    {"label.team=web", true}, /* the first of that name */
    {"label.team=second", false},
    {"label.team!=web", false},
    {"label.zone.a=größe 7", true},
    {"label.zone.a=~gr..e \\d", true}, /* characters, not bytes */
    {"label.none=", true},
    {"label.none=x", false},
    {"label.none!=x", true},
    {"label.team==~", false}, /* the value is =~ */
    {"label.team=~(?i)WEB", true},
};

static bool fits(const char *const *texts, size_t n, const PB(Alert) * a)
{
    struct err e = {""};
    struct matchers *m = matchers_new(texts, n, &e);
    if (!m)
        fail_msg("%s", e.text);
    bool yes = matchers_fit(m, a);
    assert_int_equal(matchers_fit(m, a), yes);
    matchers_free(m);
    return yes;
}

static void every_operator(void **state)
{
    (void)state;
    PB(Alert) a = alert();
    for (size_t i = 0; i < N_OF(rows); i++)
        if (fits(&rows[i].text, 1, &a) != rows[i].fits)
            fail_msg("%s: not %d", rows[i].text, rows[i].fits);
    /* All must fit, in whatever order; none is always. */
    assert_true(fits(NULL, 0, &a));
    for (size_t i = 0; i < N_OF(rows); i++)
        for (size_t k = 0; k < N_OF(rows); k++) {
            const char *two[] = {rows[i].text, rows[k].text};
            assert_int_equal(fits(two, 2, &a), rows[i].fits && rows[k].fits);
        }
}

static void what_an_alert_lacks(void **state)
{
    (void)state;
    PB(Alert) none = REDOUBT__V1__ALERT__INIT;
    static const char *const empty[] = {"severity=",  "source=",     "agent=",     "target=",     "failure_kind=",
                                        "dedup_key=", "label.team=", "severity=~", "label.x!~.+", "severity<=info"};
    assert_true(fits(empty, N_OF(empty), &none));
    const char *least = "severity>=info";
    assert_false(fits(&least, 1, &none));
    PB(Alert) a = alert();
    assert_string_equal(matcher_field(&a, "severity"), "HIGH");
    assert_string_equal(matcher_field(&a, "failure_kind"), "LLM_OUTAGE");
    assert_string_equal(matcher_field(&a, "label.team"), "web");
    assert_string_equal(matcher_field(&a, "agent"), "");
    assert_null(matcher_field(&a, "team"));
    assert_null(matcher_field(&a, "label."));
}

static void what_is_no_matcher(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"", "needs FIELD"},
        {"=x", "needs FIELD"},
        {"source", "needs FIELD"},
        {"source!x", "needs FIELD"},
        {"severity>high", "needs FIELD"},
        {"severity<high", "needs FIELD"},
        {"team=x", "`team` is no field"},
        {"source =x", "`source ` is no field"},
        {"label.=x", "`label.` is no field"},
        {"label.Team=x", "`label.Team` is no field"},
        {"severity=low=", "`low=` is no severity"},
        {"severity=fatal", "`fatal` is no severity"},
        {"severity>=", "`` is no severity"},
        {"severity>=unspecified", "is no severity"},
        {"failure_kind=fire", "`fire` is no failure_kind"},
        {"failure_kind>=network", "are for severity"},
        {"agent<=b", "are for severity"},
        {"agent=~(", "missing closing parenthesis"},
        {"agent=~a)(b", "unmatched closing parenthesis"},
        {"severity!~[", "missing terminating ]"},
    };
    for (size_t i = 0; i < N_OF(bad); i++) {
        struct err e = {""};
        assert_null(matchers_new(&bad[i].text, 1, &e));
        if (!strstr(e.text, bad[i].why))
            fail_msg("%s: %s", bad[i].text, e.text);
    }
    char big[1024] = "source=";
    memset(big + 7, 'x', 600);
    const char *texts[] = {"agent=a", big};
    struct err e;
    assert_null(matchers_new(texts, 2, &e));
    assert_non_null(strstr(e.text, "longer than"));
    matchers_free(NULL);
}

/* A pattern that would take for ever fits: rather told once too often. */
static void dear_patterns_end(void **state)
{
    (void)state;
    static char value[64 + 1];
    memset(value, 'a', 64);
    PB(Alert) a = alert();
    a.agent = value;
    const char *dear = "agent=~(a+)+[bc]", *not = "agent!~(a+)+[bc]";
    assert_true(fits(&dear, 1, &a));
    assert_true(fits(&not, 1, &a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operator),
        cmocka_unit_test(what_an_alert_lacks),
        cmocka_unit_test(what_is_no_matcher),
        cmocka_unit_test(dear_patterns_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
