/* test_common_baseline.c - the security baseline: every mistake is found, every change of a byte ends the trust, and values are what they must be. */
#include "common/baseline.h"
#include "common/wire.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char good[] = "version: \"7\"\n"
                           "per_minute: 600\n"
                           "burst: 50\n"
                           "actions:\n"
                           "  - name: block_ip\n"
                           "    postures: [normal, backup_llm, recovering, degraded]\n"
                           "    queue: yes\n"
                           "    path: /api/block\n"
                           "    per_minute: 60\n"
                           "    parameters:\n"
                           "      - { name: ip, type: ip, required: yes }\n"
                           "      - { name: minutes, type: int, min: 1, max: 1440 }\n"
                           "      - { name: reason, pattern: \"[a-z ]+\" }\n"
                           "  - name: collect_logs\n"
                           "    postures: [normal, security_fallback]\n"
                           "    execute: agent\n";

struct place {
    char dir[64], path[96], signoff[128];
};

static struct place place(void)
{
    struct place p = {.dir = "/tmp/redoubt-baseline-XXXXXX"};
    assert_non_null(mkdtemp(p.dir));
    snprintf(p.path, sizeof p.path, "%s/baseline.yaml", p.dir);
    snprintf(p.signoff, sizeof p.signoff, "%s.signoff", p.path);
    return p;
}

static void leave(const struct place *p)
{
    unlink(p->path);
    unlink(p->signoff);
    assert_int_equal(rmdir(p->dir), 0); /* nothing else was left behind */
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static char *get(const char *path)
{
    static char buf[8192];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    buf[fread(buf, 1, sizeof buf - 1, f)] = 0;
    fclose(f);
    return buf;
}

static struct set_baseline set_of(const struct place *p, const char *key)
{
    return (struct set_baseline){.path = (char *)p->path, .public_key = (char *)key};
}

static bool trusted(const struct place *p, const char *key, char error[static 512])
{
    struct set_baseline set = set_of(p, key);
    struct baseline *b = baseline_load(&set);
    bool is = b->trusted;
    assert_int_equal(is, b->error[0] == 0);
    if (!is) {
        assert_int_equal(b->actions.n, 0); /* the strict built-in */
        assert_null(baseline_action(b, "block_ip"));
    }
    memcpy(error, b->error, 512);
    baseline_free(b);
    return is;
}

/* ---- the file ---- */

static void reads_what_is_right(void **state)
{
    (void)state;
    struct conf_report r = {0};
    struct baseline *b = baseline_parse("b.yaml", good, strlen(good), &r);
    if (!b)
        print_message("%s\n", r.n ? r.lines[0] : "?");
    assert_non_null(b);
    assert_int_equal(r.n, 0);
    assert_string_equal(b->version, "7");
    assert_int_equal(b->per_minute, 600);
    const struct baseline_action *a = baseline_action(b, "block_ip");
    assert_non_null(a);
    assert_true(a->queue);
    assert_int_equal(a->execute, BASELINE_BY_GUARD);
    assert_int_equal(a->posture_bits,
                     1u << REDOUBT__V1__POSTURE__POSTURE_NORMAL | 1u << REDOUBT__V1__POSTURE__POSTURE_BACKUP_LLM |
                         1u << REDOUBT__V1__POSTURE__POSTURE_RECOVERING | 1u << REDOUBT__V1__POSTURE__POSTURE_DEGRADED);
    assert_int_equal(a->parameters.n, 3);
    assert_int_equal(baseline_action(b, "collect_logs")->execute, BASELINE_BY_AGENT);
    assert_null(baseline_action(b, "block"));
    assert_null(baseline_action(b, ""));
    assert_false(b->trusted); /* reading alone trusts nothing */
    baseline_free(b);
    conf_report_free(&r);
}

static void refuses(const char *text, const char *word)
{
    struct conf_report r = {0};
    struct baseline *b = baseline_parse("b.yaml", text, strlen(text), &r);
    if (b || r.n == 0 || !strstr(r.lines[0], word))
        fail_msg("%s\n-> %s", text, r.n ? r.lines[0] : "accepted");
    conf_report_free(&r);
}

static void finds_every_mistake(void **state)
{
    (void)state;
#define HEAD "version: a\nactions:\n  - name: x\n    postures: [normal]\n"
#define PARAMETER(p) HEAD "    parameters:\n      - " p "\n"
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"", "empty"},
        {"version: a\n", "actions"},
        {"version: a\nactions: []\n", "actions"},
        {"actions: [{name: x, postures: [normal]}]\n", "version"},
        {HEAD "    colour: red\n", "colour"},
        {HEAD "    queue: maybe\n", "queue"},
        {HEAD "    execute: nobody\n", "execute"},
        {HEAD "    path: api\n", "path"},
        {HEAD "    path: /a?b=1\n", "path"},
        {HEAD "    per_minute: -1\n", "per_minute"},
        {HEAD "    burst: 3\n", "burst"},
        {HEAD "    execute: agent\n    queue: yes\n", "execute"},
        {HEAD "  - name: x\n    postures: [normal]\n", "twice"},
        {"version: a\nburst: 3\nactions:\n  - {name: x, postures: [normal]}\n", "burst"},
        {"version: a\nactions:\n  - {name: X, postures: [normal]}\n", "name"},
        {"version: a\nactions:\n  - {name: x, postures: []}\n", "postures"},
        {"version: a\nactions:\n  - {name: x}\n", "postures"},
        {"version: a\nactions:\n  - {name: x, postures: [frozen]}\n", "frozen"},
        {"version: a\nactions:\n  - {name: x, postures: [any]}\n", "any"},
        {PARAMETER("{name: A}"), "name"},
        {PARAMETER("{name: a, type: float}"), "type"},
        {PARAMETER("{name: a, min: 5, max: 4}"), "min"},
        {PARAMETER("{name: a, max: 1025}"), "max"},
        {PARAMETER("{name: a, type: ip, max: 4}"), "min"},
        {PARAMETER("{name: a, type: enum}"), "values"},
        {PARAMETER("{name: a, values: [b]}"), "values"},
        {PARAMETER("{name: a, pattern: \"(\"}"), "pattern"},
        {PARAMETER("{name: a, pattern: \"a)|(?:b\"}"), "pattern"},
        {PARAMETER("{name: a, pattern: \"a(*ACCEPT)b\"}"), "verb"},
        {PARAMETER("{name: a, pattern: \"(?x)a#\"}"), "pattern"},
        {PARAMETER("{name: a}\n      - {name: a}"), "twice"},
        {"version: ${HOME}\nactions:\n  - {name: x, postures: [normal]}\n", "${"},
        {"version: \"\\x24{HOME}\"\nactions:\n  - {name: x, postures: [normal]}\n", "${"},
        {"version: [\n", "YAML"},
        {HEAD "---\nversion: b\n", "second"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuses(cases[i].text, cases[i].word);
}

/* ---- values ---- */

static void checks_values(void **state)
{
    (void)state;
    static const struct {
        const char *parameter, *value;
        bool fine;
    } cases[] = {
        {"type: text", "hello", true},
        {"type: text", "", false},
        {"type: text, min: 0, max: 3", "", true},
        {"type: text, min: 2, max: 3", "abcd", false},
        {"type: text, min: 2, max: 3", "a", false},
        {"type: text", "a\nb", false},
        {"type: text", "a\x7f", false},
        {"type: text", "\xe2\x82\xac", true},
        {"type: text, pattern: \"[a-z]+\"", "abc", true},
        {"type: text, pattern: \"[a-z]+\"", "abc1", false},
        {"type: text, pattern: \"[a-z]+\"", " abc", false},
        {"type: text, pattern: \"a|b\"", "ab", false},
        {"type: text, pattern: \"^a$\"", "a", true},
        {"type: text, pattern: \"(a+)+b\"", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
        {"type: int", "0", true},
        {"type: int", "-12", true},
        {"type: int", "9223372036854775807", true},
        {"type: int", "9223372036854775808", false},
        {"type: int", "007", false},
        {"type: int", "+1", false},
        {"type: int", "-0", false},
        {"type: int", "1.0", false},
        {"type: int", "", false},
        {"type: int", " 1", false},
        {"type: int", "0x10", false},
        {"type: int, min: 1, max: 10", "10", true},
        {"type: int, min: 1, max: 10", "11", false},
        {"type: int, min: 1, max: 10", "0", false},
        {"type: int, min: -5, max: -1", "-3", true},
        {"type: bool", "true", true},
        {"type: bool", "yes", false},
        {"type: ip", "192.0.2.1", true},
        {"type: ip", "2001:db8::1", true},
        {"type: ip", "192.0.2.256", false},
        {"type: ip", "192.0.2.1/32", false},
        {"type: ip", "192.0.2", false},
        {"type: ip", "fe80::1%eth0", false},
        {"type: ip", "010.0.0.1", false},
        {"type: cidr", "192.0.2.0/24", true},
        {"type: cidr", "192.0.2.1", true},
        {"type: cidr", "192.0.2.1/24", false},
        {"type: cidr", "192.0.2.0/33", false},
        {"type: cidr", "192.0.2.0/", false},
        {"type: cidr", "192.0.2.0/024", false},
        {"type: cidr", "2001:db8::/32", true},
        {"type: cidr", "2001:db8::1/32", false},
        {"type: cidr", "0.0.0.0/0", true},
        {"type: cidr", "/8", false},
        {"type: host", "db-1.example.org", true},
        {"type: host", "db-1.example.org.", false},
        {"type: host", "-a.example", false},
        {"type: host", "a-.example", false},
        {"type: host", "a..b", false},
        {"type: host", "10.0.0.1", false},
        {"type: host", "a_b", false},
        {"type: host", "", false},
        {"type: host", "xn--bcher-kva.example", true},
        {"type: host", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
        {"type: enum, values: [low, high]", "low", true},
        {"type: enum, values: [low, high]", "lo", false},
        {"type: enum, values: [low, high]", "", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512], buf[256];
        snprintf(text, sizeof text, PARAMETER("{name: a, %s}"), cases[i].parameter);
        struct conf_report r = {0};
        struct baseline *b = baseline_parse("b", text, strlen(text), &r);
        if (!b)
            fail_msg("%s: %s", cases[i].parameter, r.lines[0]);
        const struct baseline_action *a = baseline_action(b, "x");
        const char *wrong =
            baseline_check_value(CONF_AT(a->parameters, struct baseline_parameter, 0), cases[i].value, buf);
        if ((wrong == NULL) != cases[i].fine)
            fail_msg("%s, `%s`: %s", cases[i].parameter, cases[i].value, wrong ? wrong : "fine");
        baseline_free(b);
        conf_report_free(&r);
    }
}

/* ---- the sign-off ---- */

static void is_trusted_when_signed_off(void **state)
{
    (void)state;
    struct place p = place();
    struct err e = {""};
    char why[512];
    put(p.path, good);
    assert_false(trusted(&p, "", why)); /* no sign-off */
    assert_int_equal(baseline_sign(p.path, "Ada \"L\" O'Hara", NULL, &e), 0);
    struct set_baseline set = set_of(&p, "");
    struct baseline *b = baseline_load(&set);
    assert_true(b->trusted);
    assert_string_equal(b->signed_by, "Ada \"L\" O'Hara");
    assert_int_equal(strlen(b->sha256), 64);
    assert_true(b->signed_ms > 0 && b->loaded_ms >= b->signed_ms / 1000 * 1000);
    assert_false(baseline_stale(b, &set));
    baseline_free(b);
    leave(&p);
}

static void does_not_sign_what_is_wrong(void **state)
{
    (void)state;
    struct place p = place();
    struct err e = {""};
    put(p.path, HEAD "    colour: red\n");
    assert_int_equal(baseline_sign(p.path, "ada", NULL, &e), -1);
    assert_non_null(strstr(e.text, "colour"));
    put(p.path, good);
    assert_int_equal(baseline_sign(p.path, "", NULL, &e), -1);
    assert_int_equal(baseline_sign(p.path, "a\nb", NULL, &e), -1);
    assert_int_equal(access(p.signoff, F_OK), -1);
    leave(&p);
    assert_int_equal(baseline_sign("/nowhere/x.yaml", "ada", NULL, &e), -1);
}

/* Any byte of either file changed: no trust; put back: trust. */
static void any_change_ends_the_trust(void **state)
{
    (void)state;
    struct place p = place();
    struct err e = {""};
    char why[512], key[64];
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES], secret[BASELINE_KEY_BYTES];
    assert_true(sodium_init() >= 0);
    crypto_sign_keypair(public_key, secret);
    sodium_bin2base64(key, sizeof key, public_key, sizeof public_key, sodium_base64_VARIANT_ORIGINAL);
    put(p.path, good);
    assert_int_equal(baseline_sign(p.path, "ada", secret, &e), 0);
    assert_true(trusted(&p, key, why));
    const char *paths[] = {p.path, p.signoff};
    for (int k = 0; k < 2; k++) {
        char *whole = strdup(get(paths[k]));
        size_t len = strlen(whole);
        for (size_t i = 0; i < len; i++) {
            if (k == 1 && (whole[i] == '\n' || whole[i] == ' '))
                continue; /* blanks of the sign-off mean nothing */
            char was = whole[i];
            whole[i] = was == 'x' ? 'y' : 'x';
            put(paths[k], whole);
            if (trusted(&p, key, why))
                fail_msg("byte %zu of %s: changed and trusted", i, paths[k]);
            whole[i] = was;
        }
        put(paths[k], whole);
        assert_true(trusted(&p, key, why));
        free(whole);
    }
    leave(&p);
}

static void the_key_must_fit(void **state)
{
    (void)state;
    struct place p = place();
    struct err e = {""};
    char why[512], key[64], other[64];
    unsigned char public_key[crypto_sign_PUBLICKEYBYTES], secret[BASELINE_KEY_BYTES], secret2[BASELINE_KEY_BYTES];
    assert_true(sodium_init() >= 0);
    crypto_sign_keypair(public_key, secret2);
    sodium_bin2base64(other, sizeof other, public_key, sizeof public_key, sodium_base64_VARIANT_ORIGINAL);
    crypto_sign_keypair(public_key, secret);
    sodium_bin2base64(key, sizeof key, public_key, sizeof public_key, sodium_base64_VARIANT_ORIGINAL);
    put(p.path, good);
    assert_int_equal(baseline_sign(p.path, "ada", NULL, &e), 0);
    assert_true(trusted(&p, "", why));
    assert_false(trusted(&p, key, why));
    assert_non_null(strstr(why, "not signed"));
    assert_int_equal(baseline_sign(p.path, "ada", secret2, &e), 0);
    assert_false(trusted(&p, key, why));
    assert_true(trusted(&p, other, why));
    assert_false(trusted(&p, "AAAA", why));
    assert_false(trusted(&p, "not base64!", why));
    assert_true(trusted(&p, "", why)); /* without a key the hash alone counts */
    leave(&p);
}

static void notices_changes_on_disk(void **state)
{
    (void)state;
    struct place p = place();
    struct err e = {""};
    struct set_baseline set = set_of(&p, ""), none = {.path = (char *)"", .public_key = (char *)""};
    struct baseline *b = baseline_load(&set);
    assert_false(b->trusted);
    assert_non_null(strstr(b->error, "cannot be read"));
    assert_false(baseline_stale(b, &set)); /* still not there */
    put(p.path, good);
    assert_true(baseline_stale(b, &set));
    baseline_free(b);
    assert_int_equal(baseline_sign(p.path, "ada", NULL, &e), 0);
    b = baseline_load(&set);
    assert_true(b->trusted);
    assert_false(baseline_stale(b, &set));
    unlink(p.signoff);
    assert_true(baseline_stale(b, &set));
    baseline_free(b);
    b = baseline_load(&set);
    assert_false(b->trusted);
    baseline_free(b);
    b = baseline_load(&none);
    assert_false(b->trusted);
    assert_non_null(strstr(b->error, "baseline.path"));
    assert_false(baseline_stale(b, &none));
    baseline_free(b);
    leave(&p);
}

/* The one that we ship; run from the top of the repository, as all tests are. */
static void the_example_is_signed_off(void **state)
{
    (void)state;
    struct set_baseline set = {.path = (char *)"deploy/security-baseline.yaml", .public_key = (char *)""};
    struct baseline *b = baseline_load(&set);
    if (!b->trusted)
        fail_msg("%s; sign it off again with `redoubt baseline sign`", b->error);
    assert_non_null(baseline_action(b, "block_ip"));
    baseline_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_right),       cmocka_unit_test(finds_every_mistake),
        cmocka_unit_test(checks_values),             cmocka_unit_test(is_trusted_when_signed_off),
        cmocka_unit_test(does_not_sign_what_is_wrong), cmocka_unit_test(any_change_ends_the_trust),
        cmocka_unit_test(the_key_must_fit),          cmocka_unit_test(notices_changes_on_disk),
        cmocka_unit_test(the_example_is_signed_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
