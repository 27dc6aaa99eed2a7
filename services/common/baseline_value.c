/* baseline_value.c - is a parameter's value what the baseline says it must be. Pure. */
#include "common/baseline.h"
#include "common/match.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 1024

static bool is_text(const char *v)
{
    for (; *v; v++)
        if ((unsigned char)*v < 0x20 || *v == 0x7f)
            return false;
    return true;
}

/* Decimal, as one would write it: no plus, no leading zeros, no blanks. */
static bool read_int(const char *v, int64_t *ret)
{
    const char *digits = *v == '-' ? v + 1 : v;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || digits[n] || (*digits == '0' && (n > 1 || *v == '-')))
        return false;
    errno = 0;
    *ret = strtoll(v, NULL, 10);
    return errno == 0;
}

/* Length of the address in bytes: 4, 16, or 0 = it is none. */
static size_t read_ip(const char *v, unsigned char out[static 16])
{
    if (inet_pton(AF_INET, v, out) == 1)
        return 4;
    return inet_pton(AF_INET6, v, out) == 1 ? 16 : 0;
}

/* An address, or a network whose address has no bits beyond its length: what is blocked must be what was meant. */
static bool is_cidr(const char *v)
{
    unsigned char at[16] = {0};
    char host[64];
    const char *slash = strchr(v, '/');
    size_t n = slash ? (size_t)(slash - v) : strlen(v);
    int64_t bits;
    if (n >= sizeof host)
        return false;
    memcpy(host, v, n);
    host[n] = 0;
    size_t bytes = read_ip(host, at);
    if (bytes == 0 || !slash)
        return bytes != 0;
    if (!read_int(slash + 1, &bits) || bits < 0 || bits > (int64_t)bytes * 8)
        return false;
    for (size_t i = (size_t)bits; i < bytes * 8; i++)
        if (at[i / 8] & (0x80 >> i % 8))
            return false;
    return true;
}

/* A DNS name; its last label is not all digits, or it would be read as an address. */
static bool is_host(const char *v)
{
    size_t len = strlen(v), label = 0;
    bool digits = true;
    if (len == 0 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (v[i] == '.') {
            if (label == 0 || v[i - 1] == '-')
                return false;
            label = 0;
            digits = true;
            continue;
        }
        if (!isalnum((unsigned char)v[i]) && !(v[i] == '-' && label > 0))
            return false;
        digits = digits && isdigit((unsigned char)v[i]);
        if (++label > 63)
            return false;
    }
    return label > 0 && v[len - 1] != '-' && !digits;
}

static bool is_one_of(const struct conf_list *values, const char *v)
{
    for (size_t i = 0; i < values->n; i++)
        if (strcmp(*CONF_AT(*values, char *, i), v) == 0)
            return true;
    return false;
}

static const char *check_type(const struct baseline_parameter *p, const char *v, char buf[static 256])
{
    unsigned char ip[16];
    int64_t n;
    size_t len = strlen(v);
    bool bounded = p->min || p->max;
    switch ((enum baseline_type)p->type) {
    case BASELINE_TEXT:
        if (!is_text(v))
            return "holds control characters";
        if (bounded ? (int64_t)len >= p->min && (int64_t)len <= p->max : len >= 1 && len <= TEXT_MAX)
            return NULL;
        snprintf(buf, 256, "has %zu bytes; allowed: %" PRId64 " to %" PRId64, len, bounded ? p->min : 1,
                 bounded ? p->max : TEXT_MAX);
        return buf;
    case BASELINE_INT:
        if (!read_int(v, &n))
            return "is no whole number";
        if (!bounded || (n >= p->min && n <= p->max))
            return NULL;
        snprintf(buf, 256, "is %" PRId64 "; allowed: %" PRId64 " to %" PRId64, n, p->min, p->max);
        return buf;
    case BASELINE_BOOL:
        return strcmp(v, "true") == 0 || strcmp(v, "false") == 0 ? NULL : "is neither true nor false";
    case BASELINE_IP:
        return read_ip(v, ip) ? NULL : "is no IP address";
    case BASELINE_CIDR:
        return is_cidr(v) ? NULL : "is no IP address or network, or has bits beyond the network's length";
    case BASELINE_HOST:
        return is_host(v) ? NULL : "is no host name";
    case BASELINE_ENUM:
        return is_one_of(&p->values, v) ? NULL : "is not among the values that are allowed";
    }
    return "is of a type that is not known";
}

const char *baseline_check_value(const struct baseline_parameter *p, const char *value, char buf[static 256])
{
    const char *wrong = check_type(p, value, buf);
    if (wrong || !p->match)
        return wrong;
    switch (match_run(p->match, value, strlen(value))) {
    case MATCH_YES:
        return NULL;
    case MATCH_NO:
        return "does not match the pattern";
    case MATCH_LIMIT:
        break;
    }
    return match_why(p->match);
}
