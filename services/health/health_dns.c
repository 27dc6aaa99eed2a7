/* health_dns.c - the records of a DNS answer as text. Names, which may be compressed, are c-ares' business. */
#define CARES_NO_DEPRECATED /* newer versions prefer another interface, which older ones lack */
#include "health/health_dns.h"
#include "common/settings.h"
#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HEAD 12

int health_dns_type(int record)
{
    static const int types[] = {
        [SET_DNS_A] = ns_t_a,   [SET_DNS_AAAA] = ns_t_aaaa, [SET_DNS_CNAME] = ns_t_cname, [SET_DNS_MX] = ns_t_mx,
        [SET_DNS_NS] = ns_t_ns, [SET_DNS_SRV] = ns_t_srv,   [SET_DNS_TXT] = ns_t_txt,
    };
    return types[record];
}

struct message {
    const unsigned char *data;
    size_t len, at;
};

static unsigned at16(const unsigned char *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

/* The name at `from`; returns its length in the message, or -1. */
static long name_at(const struct message *m, size_t from, char *out, size_t room)
{
    char *name = NULL;
    long used = 0;
    if (from >= m->len || ares_expand_name(m->data + from, m->data, (int)m->len, &name, &used) != ARES_SUCCESS)
        return -1;
    if (out)
        snprintf(out, room, "%s", *name ? name : ".");
    ares_free_string(name);
    return used;
}

static bool skip_name(struct message *m)
{
    long used = name_at(m, m->at, NULL, 0);
    if (used < 0 || m->at + (size_t)used > m->len)
        return false;
    m->at += (size_t)used;
    return true;
}

static long txt_text(const unsigned char *data, size_t size, char *out)
{
    size_t n = 0;
    for (size_t at = 0; at < size;) {
        size_t piece = data[at++];
        if (piece > size - at)
            return -1;
        size_t fits = piece < HEALTH_DNS_TEXT_MAX - 1 - n ? piece : HEALTH_DNS_TEXT_MAX - 1 - n;
        memcpy(out + n, data + at, fits);
        n += fits;
        at += piece;
    }
    out[n] = 0;
    return (long)n;
}

/* Length of the text, or -1: the record is not what its type says. */
static long text_of(const struct message *m, size_t at, size_t size, int type, char *out)
{
    const unsigned char *data = m->data + at;
    char name[512];
    size_t fixed = type == ns_t_mx ? 2 : type == ns_t_srv ? 6 : 0; /* what comes before the name */
    switch (type) {
    case ns_t_a:
    case ns_t_aaaa:
        if (size != (type == ns_t_a ? 4u : 16u) ||
            !inet_ntop(type == ns_t_a ? AF_INET : AF_INET6, data, out, HEALTH_DNS_TEXT_MAX))
            return -1;
        return (long)strlen(out);
    case ns_t_txt:
        return txt_text(data, size, out);
    default:
        break;
    }
    long used = size > fixed ? name_at(m, at + fixed, name, sizeof name) : -1;
    if (used < 0 || (size_t)used > size - fixed)
        return -1;
    if (type == ns_t_mx)
        return snprintf(out, HEALTH_DNS_TEXT_MAX, "%u %s", at16(data), name);
    if (type == ns_t_srv)
        return snprintf(out, HEALTH_DNS_TEXT_MAX, "%u %u %u %s", at16(data), at16(data + 2), at16(data + 4), name);
    return snprintf(out, HEALTH_DNS_TEXT_MAX, "%s", name);
}

int health_dns_read(const unsigned char *message, size_t len, int type, health_dns_record fn, void *ctx)
{
    struct message m = {message, len, HEAD};
    char text[HEALTH_DNS_TEXT_MAX];
    int found = 0;
    if (len < HEAD || len > 65535)
        return -1;
    unsigned questions = at16(message + 4), answers = at16(message + 6);
    for (; questions > 0; questions--) {
        if (!skip_name(&m) || len - m.at < 4)
            return -1;
        m.at += 4;
    }
    for (; answers > 0; answers--) {
        if (!skip_name(&m) || len - m.at < 10)
            return -1;
        int this_type = (int)at16(message + m.at);
        bool internet = at16(message + m.at + 2) == ns_c_in;
        size_t size = at16(message + m.at + 8);
        m.at += 10;
        if (size > len - m.at)
            return -1;
        if (this_type == type && internet) {
            long n = text_of(&m, m.at, size, type, text);
            if (n < 0)
                return -1;
            found++;
            fn(ctx, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
        }
        m.at += size;
    }
    return found;
}
