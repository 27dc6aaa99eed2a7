/* test_health_answers.c - records of DNS answers, and what is said of certificates: pure. */
#include "common/settings.h"
#include "health/health_cert.h"
#include "health/health_dns.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct texts {
    int n;
    char last[HEALTH_DNS_TEXT_MAX];
    size_t len;
};

static void keep(void *ctx, const char *text, size_t len)
{
    struct texts *t = ctx;
    t->n++;
    t->len = len;
    assert_true(len < sizeof t->last);
    memcpy(t->last, text, len);
    t->last[len] = 0;
}

#define HEAD_OF(answers) "\x12\x34\x81\x80\0\1\0" answers "\0\0\0\0"
#define QUESTION         "\1a\4test\0\0\1\0\1"

static int read_it(const void *message, size_t len, int record, struct texts *t)
{
    unsigned char *exact = malloc(len ? len : 1); /* so that reading past the end is seen */
    memset(t, 0, sizeof *t);
    memcpy(exact, message, len);
    int n = health_dns_read(exact, len, health_dns_type(record), keep, t);
    free(exact);
    return n;
}
#define READ(message, record, t) read_it(message, sizeof(message) - 1, record, t)

static void records_become_text(void **state)
{
    struct texts t;
    (void)state;
    static const char two[] = HEAD_OF("\2") QUESTION "\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1b\xc0\x0e"
                                                     "\1b\xc0\x0e\0\1\0\1\0\0\0\1\0\4\1\2\3\4";
    assert_int_equal(READ(two, SET_DNS_A, &t), 1); /* behind a CNAME */
    assert_string_equal(t.last, "1.2.3.4");
    assert_int_equal(READ(two, SET_DNS_CNAME, &t), 1);
    assert_string_equal(t.last, "b.test");
    assert_int_equal(READ(two, SET_DNS_TXT, &t), 0);
    static const char root[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\x0f\0\1\0\0\0\1\0\3\0\0\0";
    assert_int_equal(READ(root, SET_DNS_MX, &t), 1); /* no mail, says RFC 7505 */
    assert_string_equal(t.last, "0 .");
    static const char txt[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\x10\0\1\0\0\0\1\0\x08\3abc\0\2\0z";
    assert_int_equal(READ(txt, SET_DNS_TXT, &t), 1);
    assert_int_equal(t.len, 5);
    assert_memory_equal(t.last, "abc\0z", 5);
    static const char chaos[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\1\0\3\0\0\0\1\0\4\1\2\3\4";
    assert_int_equal(READ(chaos, SET_DNS_A, &t), 0); /* of another class */
    unsigned char many[12 + 12 + 12 + 4096] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\x10\0\1\0\0\0\1\x10\0";
    for (size_t at = 36; at < sizeof many; at += 256)
        many[at] = 255;
    assert_int_equal(read_it(many, sizeof many, SET_DNS_TXT, &t), 1); /* longer than what is looked at */
    assert_int_equal(t.len, HEALTH_DNS_TEXT_MAX - 1);
}

static void malformed_messages_are_none(void **state)
{
    struct texts t;
    (void)state;
    static const char good[] = HEAD_OF("\2") QUESTION "\xc0\x0c\0\1\0\1\0\0\0\1\0\4\1\2\3\4"
                                                      "\xc0\x0c\0\x0f\0\1\0\0\0\1\0\7\0\5\2mx\xc0\x0c";
    assert_int_equal(READ(good, SET_DNS_A, &t), 1);
    assert_int_equal(READ(good, SET_DNS_MX, &t), 1);
    assert_string_equal(t.last, "5 mx.a.test");
    for (size_t len = 0; len + 1 < sizeof good; len++)
        assert_int_equal(read_it(good, len, SET_DNS_MX, &t), -1);
    static const char size[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\1\0\1\0\0\0\1\0\5\1\2\3\4\5";
    assert_int_equal(READ(size, SET_DNS_A, &t), -1); /* no address has five bytes */
    static const char loop[] = HEAD_OF("\1") QUESTION "\xc0\x18\0\1\0\1\0\0\0\1\0\4\1\2\3\4";
    assert_int_equal(READ(loop, SET_DNS_A, &t), -1);
    static const char beyond[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\2\0\1\0\0\0\1\0\3\1b\0";
    assert_int_equal(READ(beyond, SET_DNS_NS, &t), 1);
    static const char name[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\2\0\1\0\0\0\1\0\2\1b\0\0\0\0";
    assert_int_equal(READ(name, SET_DNS_NS, &t), -1); /* the name is longer than its record */
    static const char piece[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\x10\0\1\0\0\0\1\0\3\5ab";
    assert_int_equal(READ(piece, SET_DNS_TXT, &t), -1);
    static const char srv[] = HEAD_OF("\1") QUESTION "\xc0\x0c\0\x21\0\1\0\0\0\1\0\6\0\1\0\1\0\1";
    assert_int_equal(READ(srv, SET_DNS_SRV, &t), -1); /* no name */
}

#define NOW INT64_C(1800000000)
#define DAY INT64_C(86400)

static void a_certificate_lasts_or_not(void **state)
{
    static const struct {
        int64_t ends_s;
        bool good;
        int64_t expiry_ms;
        int fault;
        const char *says;
    } cases[] = {
        {NOW + 30 * DAY, true, 14 * DAY * 1000, HEALTH_FAULT_NONE, ""},
        {NOW + 14 * DAY + 1, true, 14 * DAY * 1000, HEALTH_FAULT_NONE, ""},
        {NOW + 14 * DAY, true, 14 * DAY * 1000, HEALTH_FAULT_EXPIRING, "14 days left, until 2027-01-29: a (by b)"},
        {NOW + DAY - 1, true, 14 * DAY * 1000, HEALTH_FAULT_EXPIRING, "0 days left"},
        {NOW + 1, true, 0, HEALTH_FAULT_NONE, ""},
        {NOW, true, 0, HEALTH_FAULT_EXPIRING, "over since 2027-01-15"}, /* one that the chain can do without */
        {NOW, false, 0, HEALTH_FAULT_CERTIFICATE, "over since 2027-01-15: a (by b)"},
        {NOW - 900 * DAY, false, DAY, HEALTH_FAULT_CERTIFICATE, "over since 2024-"},
        {0, false, DAY, HEALTH_FAULT_NONE, ""}, /* not known */
        {INT64_MAX, true, DAY, HEALTH_FAULT_NONE, ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct health_result r = {.fault = HEALTH_FAULT_NONE};
        bool lasts = health_cert_lasts(cases[i].ends_s, "a (by b)", cases[i].good, cases[i].expiry_ms, NOW, &r);
        assert_int_equal(lasts, cases[i].fault == HEALTH_FAULT_NONE);
        assert_int_equal(r.fault, cases[i].fault);
        if (!strstr(r.detail, cases[i].says))
            print_message("%zu: %s\n", i, r.detail);
        assert_non_null(strstr(r.detail, cases[i].says));
    }
}

static void a_refusal_says_what_is_known(void **state)
{
    const struct health_cert known = {.n = 2,
                                      .subject = "agent.test",
                                      .issuer = "Some Authority",
                                      .names = "DNS:agent.test, DNS:b.test",
                                      .begins_s = NOW + DAY,
                                      .ends_s = NOW - DAY,
                                      .first_to_end = "agent.test (by Some Authority)"};
    static const struct {
        enum http_cert_fault why;
        const char *known, *unknown;
    } cases[] = {
        {HTTP_CERT_OVER, "over since 2027-01-14: agent.test (by Some Authority)", "over: it says so"},
        {HTTP_CERT_EARLY, "not valid before 2027-01-16: agent.test", "not valid yet: it says so"},
        {HTTP_CERT_NAME, "of another name: agent.test (DNS:agent.test, DNS:b.test)", "of another name: it says so"},
        {HTTP_CERT_AUTHORITY, "of an unknown authority: agent.test, by Some Authority",
         "of an unknown authority: it says so"},
        {HTTP_CERT_OTHER, "agent.test, by Some Authority: it says so", "it says so"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct health_result r = {0};
        const struct health_cert none = {0};
        health_cert_refused(cases[i].why, &known, "it says so", &r);
        assert_int_equal(r.fault, HEALTH_FAULT_CERTIFICATE);
        assert_string_equal(r.detail, cases[i].known);
        health_cert_refused(cases[i].why, &none, "it says so", &r);
        assert_string_equal(r.detail, cases[i].unknown);
        health_cert_refused(cases[i].why, NULL, "it says so", &r);
        assert_string_equal(r.detail, cases[i].unknown);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_become_text),
        cmocka_unit_test(malformed_messages_are_none),
        cmocka_unit_test(a_certificate_lasts_or_not),
        cmocka_unit_test(a_refusal_says_what_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
