/* test_common_webhook_sign.c - signatures of Standard Webhooks, against the vectors of its reference libraries. */
#include "common/webhook_sign.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID     "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY   "{\"test\": 2432232314}"
#define WHEN   1614265330

static void the_known_vectors(void **state)
{
    (void)state;
    struct err e = {""};
    struct webhook_key k;
    char out[WEBHOOK_SIGNATURE_MAX];
    assert_int_equal(webhook_key_read(SECRET, &k, &e), 0);
    assert_int_equal(k.len, 24);
    assert_string_equal(webhook_sign(&k, ID, WHEN, BODY, strlen(BODY), out),
                        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");

    /* A key that is too short for us, signed all the same. */
    static const char other[] = "{\"event_type\":\"ping\",\"data\":{\"success\":true}}";
    assert_int_equal(sodium_base642bin(k.bytes, sizeof k.bytes, "plJ3nmyCDGBKInavdOK15jsl", 24, NULL, &k.len, NULL,
                                       sodium_base64_VARIANT_ORIGINAL),
                     0);
    assert_string_equal(webhook_sign(&k, "msg_loFOjxBNrRLzqYUf", 1731705121, other, strlen(other), out),
                        "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
}

static void headers_of_a_call(void **state)
{
    (void)state;
    struct webhook_key k;
    struct webhook_headers h;
    assert_int_equal(webhook_key_read(SECRET, &k, NULL), 0);
    webhook_headers(&k, ID, WHEN, BODY, strlen(BODY), &h);
    assert_string_equal(h.id, "webhook-id: " ID);
    assert_string_equal(h.timestamp, "webhook-timestamp: 1614265330");
    assert_string_equal(h.signature, "webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    webhook_headers(NULL, ID, WHEN, BODY, strlen(BODY), &h);
    assert_string_equal(h.signature, "");
    /* The longest id there may be. */
    char id[65];
    memset(id, 'a', 64);
    id[64] = 0;
    webhook_headers(&k, id, INT64_MAX, "", 0, &h);
    assert_int_equal(strlen(h.id), strlen("webhook-id: ") + 64);
    assert_string_equal(h.timestamp, "webhook-timestamp: 9223372036854775807");
    assert_int_equal(strlen(h.signature), strlen("webhook-signature: v1,") + 44);
}

static void every_change_is_seen(void **state)
{
    (void)state;
    struct webhook_key k, wrong;
    char out[WEBHOOK_SIGNATURE_MAX], several[256], body[] = BODY;
    assert_int_equal(webhook_key_read(SECRET, &k, NULL), 0);
    webhook_sign(&k, ID, WHEN, body, strlen(body), out);
    assert_true(webhook_signed(&k, ID, WHEN, body, strlen(body), out));
    snprintf(several, sizeof several, "v1a,AAAA  v1,g0hM %s v1,zzzz", out);
    assert_true(webhook_signed(&k, ID, WHEN, body, strlen(body), several));
    for (size_t i = 0; i < strlen(body); i++)
        for (int bit = 0; bit < 8; bit++) {
            body[i] = (char)(body[i] ^ (1 << bit));
            assert_false(webhook_signed(&k, ID, WHEN, body, sizeof body - 1, out));
            body[i] = (char)(body[i] ^ (1 << bit));
        }
    assert_false(webhook_signed(&k, ID, WHEN, body, strlen(body) - 1, out));
    assert_false(webhook_signed(&k, ID, WHEN + 1, body, strlen(body), out));
    assert_false(webhook_signed(&k, "msg", WHEN, body, strlen(body), out));
    wrong = k;
    wrong.bytes[23] ^= 1;
    assert_false(webhook_signed(&wrong, ID, WHEN, body, strlen(body), out));
    assert_false(webhook_signed(&k, ID, WHEN, body, strlen(body), ""));
    assert_false(webhook_signed(&k, ID, WHEN, body, strlen(body), "v1,"));
    out[strlen(out) - 1] = 0;
    assert_false(webhook_signed(&k, ID, WHEN, body, strlen(body), out));
}

static void secrets_of_another_form(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",              /* no prefix */
        "whsec_plJ3nmyCDGBKInavdOK15jsl",                /* 18 bytes */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS*",        /* no base64 */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw Mf",     /* something behind */
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAAAA===", /* padded wrongly */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err e = {""};
        struct webhook_key k = {.len = 7};
        assert_int_equal(webhook_key_read(bad[i], &k, &e), -1);
        assert_int_equal(k.len, 7); /* untouched */
        assert_true(e.text[0]);
        assert_null(strstr(e.text, "MfKQ9"));
    }
    /* 24 to 64 bytes, with padding and without. */
    for (size_t n = 20; n <= 70; n++) {
        unsigned char raw[70];
        memset(raw, 0xa5, sizeof raw);
        for (int variant = 0; variant < 2; variant++) {
            char secret[128] = "whsec_";
            struct webhook_key k;
            sodium_bin2base64(secret + 6, sizeof secret - 6, raw, n,
                              variant ? sodium_base64_VARIANT_ORIGINAL : sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
            int ret = webhook_key_read(secret, &k, NULL);
            assert_int_equal(ret, n >= WEBHOOK_KEY_MIN && n <= WEBHOOK_KEY_MAX ? 0 : -1);
            if (ret == 0)
                assert_true(k.len == n && memcmp(k.bytes, raw, n) == 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_known_vectors),
        cmocka_unit_test(headers_of_a_call),
        cmocka_unit_test(every_change_is_seen),
        cmocka_unit_test(secrets_of_another_form),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
