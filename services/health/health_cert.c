/* health_cert.c - certificates that a peer has shown: which ends first, and what that means. */
#include "health/health_cert.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHAIN_MAX 16
#define DAY_S     86400

static const char *common_name(const char *subject)
{
    const char *cn = strstr(subject, "CN"); /* "C = US, O = x, CN = name" or without the blanks */
    if (!cn)
        return subject;
    cn += 2 + strspn(cn + 2, " ");
    return *cn == '=' ? cn + 1 + strspn(cn + 1, " ") : subject;
}

static void day(int64_t s, char out[static 16])
{
    time_t t = (time_t)s;
    struct tm tm;
    if (s == 0 || !gmtime_r(&t, &tm) || strftime(out, 16, "%Y-%m-%d", &tm) == 0)
        snprintf(out, 16, "?");
}

bool health_cert_read(const struct http_call *c, struct health_cert *ret)
{
    struct http_cert k;
    *ret = (struct health_cert){0};
    for (; ret->n < CHAIN_MAX && http_cert(c, ret->n, &k); ret->n++) {
        if (ret->n == 0) {
            snprintf(ret->subject, sizeof ret->subject, "%s", common_name(k.subject));
            snprintf(ret->issuer, sizeof ret->issuer, "%s", common_name(k.issuer));
            snprintf(ret->names, sizeof ret->names, "%s", k.names);
            ret->begins_s = k.begins_s;
        }
        if (k.ends_s != 0 && (ret->ends_s == 0 || k.ends_s < ret->ends_s)) {
            ret->ends_s = k.ends_s;
            snprintf(ret->first_to_end, sizeof ret->first_to_end, "%s%.40s (by %.32s)",
                     ret->n == 0 ? "" : "the authority ", common_name(k.subject), common_name(k.issuer));
        }
    }
    return ret->n > 0;
}

bool health_cert_lasts(int64_t ends_s, const char *which, bool chain_good, int64_t expiry_ms, int64_t now_s,
                       struct health_result *r)
{
    if (ends_s == 0)
        return true;
    char when[16];
    int64_t left_s = ends_s - now_s;
    day(ends_s, when);
    if (left_s <= 0) {
        r->fault = chain_good ? HEALTH_FAULT_EXPIRING : HEALTH_FAULT_CERTIFICATE;
        health_detail(r, "over since %s: %s", when, which);
        return false;
    }
    if (left_s > expiry_ms / 1000)
        return true;
    r->fault = HEALTH_FAULT_EXPIRING;
    health_detail(r, "%lld days left, until %s: %s", (long long)(left_s / DAY_S), when, which);
    return false;
}

void health_cert_refused(enum http_cert_fault why, const struct health_cert *cert, const char *error,
                         struct health_result *r)
{
    char when[16];
    r->fault = HEALTH_FAULT_CERTIFICATE;
    bool known = cert && cert->n > 0;
    switch (why) {
    case HTTP_CERT_OVER:
        day(known ? cert->ends_s : 0, when);
        if (known)
            health_detail(r, "over since %s: %s", when, cert->first_to_end);
        else
            health_detail(r, "over: %s", error);
        return;
    case HTTP_CERT_EARLY:
        day(known ? cert->begins_s : 0, when);
        if (known)
            health_detail(r, "not valid before %s: %s", when, cert->subject);
        else
            health_detail(r, "not valid yet: %s", error);
        return;
    case HTTP_CERT_NAME:
        if (known)
            health_detail(r, "of another name: %.40s (%.50s)", cert->subject, cert->names);
        else
            health_detail(r, "of another name: %s", error);
        return;
    case HTTP_CERT_AUTHORITY:
        if (known)
            health_detail(r, "of an unknown authority: %.40s, by %.40s", cert->subject, cert->issuer);
        else
            health_detail(r, "of an unknown authority: %s", error);
        return;
    case HTTP_CERT_OTHER:
        break;
    }
    if (known)
        health_detail(r, "%.40s, by %.32s: %s", cert->subject, cert->issuer, error);
    else
        health_detail(r, "%s", error);
}
