/* webhook_sign.c - signatures of Standard Webhooks, by libsodium. */
#include "common/webhook_sign.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PREFIX  "whsec_"
#define VERSION "v1,"

int webhook_key_read(const char *secret, struct webhook_key *ret, struct err *e)
{
    struct webhook_key k;
    const char *text = secret + strlen(PREFIX), *end = NULL;
    if (strncmp(secret, PREFIX, strlen(PREFIX)) != 0)
        return err_set(e, "it does not begin with " PREFIX);
    /* Padding is often left out where secrets are copied about. */
    int variant = strchr(text, '=') || strlen(text) % 4 == 0 ? sodium_base64_VARIANT_ORIGINAL
                                                             : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
    int bad = sodium_base642bin(k.bytes, sizeof k.bytes, text, strlen(text), NULL, &k.len, &end, variant);
    if (bad || !end || *end)
        bad = err_set(e, "what follows " PREFIX " is not base64, or more than %d bytes", WEBHOOK_KEY_MAX);
    else if (k.len < WEBHOOK_KEY_MIN)
        bad = err_set(e, "it has %zu bytes in base64, and at least %d are needed", k.len, WEBHOOK_KEY_MIN);
    if (!bad)
        *ret = k;
    sodium_memzero(&k, sizeof k);
    return bad ? -1 : 0;
}

const char *webhook_sign(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                         char out[static WEBHOOK_SIGNATURE_MAX])
{
    crypto_auth_hmacsha256_state s;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    char time[32];
    snprintf(time, sizeof time, ".%" PRId64 ".", unix_s);
    crypto_auth_hmacsha256_init(&s, k->bytes, k->len);
    crypto_auth_hmacsha256_update(&s, (const unsigned char *)id, strlen(id));
    crypto_auth_hmacsha256_update(&s, (const unsigned char *)time, strlen(time));
    crypto_auth_hmacsha256_update(&s, body, len);
    crypto_auth_hmacsha256_final(&s, mac);
    memcpy(out, VERSION, sizeof VERSION);
    sodium_bin2base64(out + strlen(VERSION), WEBHOOK_SIGNATURE_MAX - strlen(VERSION), mac, sizeof mac,
                      sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(&s, sizeof s);
    return out;
}

bool webhook_signed(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                    const char *signatures)
{
    char right[WEBHOOK_SIGNATURE_MAX];
    webhook_sign(k, id, unix_s, body, len, right);
    size_t right_len = strlen(right);
    bool ok = false;
    for (const char *p = signatures; *p;) {
        size_t n = strcspn(p, " ");
        if (n == right_len && sodium_memcmp(p, right, n) == 0)
            ok = true;
        p += n + strspn(p + n, " ");
    }
    return ok;
}

void webhook_headers(const struct webhook_key *k, const char *id, int64_t unix_s, const void *body, size_t len,
                     struct webhook_headers *ret)
{
    char signature[WEBHOOK_SIGNATURE_MAX];
    snprintf(ret->id, sizeof ret->id, "webhook-id: %s", id);
    snprintf(ret->timestamp, sizeof ret->timestamp, "webhook-timestamp: %" PRId64, unix_s);
    ret->signature[0] = 0;
    if (k)
        snprintf(ret->signature, sizeof ret->signature, "webhook-signature: %s",
                 webhook_sign(k, id, unix_s, body, len, signature));
}
