/* http_verdict.c - what a call's end means: curl's codes, addresses and Retry-After, judged without any I/O. */
#include "common/http_priv.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

const char *http_fault_text(enum http_fault f)
{
    static const char *const text[] = {
        [HTTP_OK] = "ok",
        [HTTP_RESOLVE] = "name not found",
        [HTTP_CONNECT] = "cannot connect",
        [HTTP_TLS] = "TLS failed",
        [HTTP_CERTIFICATE] = "the certificate is not valid",
        [HTTP_TIMEOUT] = "timed out",
        [HTTP_CUT] = "cut in the middle",
        [HTTP_TOO_LARGE] = "answer too large",
        [HTTP_BAD_ANSWER] = "not an answer",
        [HTTP_LOGIN] = "login refused",
        [HTTP_FORBIDDEN] = "address or protocol not allowed",
        [HTTP_CANCELLED] = "cancelled",
        [HTTP_FAILED] = "failed",
    };
    return (unsigned)f < sizeof text / sizeof *text ? text[f] : "?";
}

enum http_fault http_verdict(const struct http_call *c, CURLcode code)
{
    if (c->too_large)
        return HTTP_TOO_LARGE;
    if (c->ended_by_piece)
        return HTTP_CANCELLED;
    if (c->out_of_memory)
        return HTTP_FAILED;
    switch ((int)code) { /* int: newer libraries have more */
    case CURLE_OK:
        return HTTP_OK;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return HTTP_RESOLVE;
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED:
        return c->forbidden ? HTTP_FORBIDDEN : HTTP_CONNECT;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_SHUTDOWN_FAILED:
    case CURLE_SSL_CRL_BADFILE:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        return HTTP_TLS;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return HTTP_CERTIFICATE;
    case CURLE_OPERATION_TIMEDOUT:
        return HTTP_TIMEOUT;
    case CURLE_LOGIN_DENIED:
    case CURLE_AUTH_ERROR:
        return HTTP_LOGIN;
    case CURLE_FILESIZE_EXCEEDED:
        return HTTP_TOO_LARGE;
    case CURLE_UNSUPPORTED_PROTOCOL: /* curl says the same of a wrong scheme and of an answer without a status line */
        return c->connected ? HTTP_BAD_ANSWER : HTTP_FORBIDDEN;
    case CURLE_ABORTED_BY_CALLBACK:
        return c->forbidden ? HTTP_FORBIDDEN : HTTP_CANCELLED;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_QUOTE_ERROR:
    case CURLE_REMOTE_ACCESS_DENIED:
    case CURLE_BAD_CONTENT_ENCODING:
        break;
    default:
        return HTTP_FAILED;
    }
    /* The dialogue broke. In SMTP a refusal is an answer like any other; otherwise garbage and silence are told apart. */
    if (c->mail && c->status >= 400)
        return c->status == 535 || c->status == 534 || c->status == 530 ? HTTP_LOGIN : HTTP_OK;
    return code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_BAD_CONTENT_ENCODING ? HTTP_BAD_ANSWER : HTTP_CUT;
}

/* Network and prefix length; addresses in them are not on the public Internet. */
static const struct {
    uint32_t net;
    int bits;
} private_v4[] = {
    {0x00000000, 8},  /* this network */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* shared, carrier NAT */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local, cloud metadata */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 4},  /* multicast */
    {0xf0000000, 4},  /* reserved, broadcast */
};

static bool v4_public(uint32_t a)
{
    for (size_t i = 0; i < sizeof private_v4 / sizeof *private_v4; i++)
        if ((a ^ private_v4[i].net) >> (32 - private_v4[i].bits) == 0)
            return false;
    return true;
}

static uint32_t v4_at(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool v6_public(const unsigned char *b)
{
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const unsigned char nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(b, mapped, 12) == 0 || memcmp(b, nat64, 12) == 0)
        return v4_public(v4_at(b + 12));
    if (b[0] == 0x20 && b[1] == 0x02) /* 6to4 carries an IPv4 address */
        return v4_public(v4_at(b + 2));
    if (b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0d && b[3] == 0xb8) /* documentation */
        return false;
    if (b[0] == 0x20 && b[1] == 0x01 && b[2] < 2) /* Teredo and other special purposes */
        return false;
    return (b[0] & 0xe0) ==
           0x20; /* 2000::/3 is all that is handed out: no loopback, link-local, unique-local, multicast */
}

bool http_address_public(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return v4_public(ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr));
    if (a->sa_family == AF_INET6)
        return v6_public(((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr);
    return false;
}

int64_t http_retry_after(const char *value, int64_t now_unix_s)
{
    const int64_t max_s = 365 * 24 * 3600;
    value += strspn(value, " \t");
    size_t digits = strspn(value, "0123456789");
    if (digits > 0 && value[digits + strspn(value + digits, " \t")] == '\0') {
        int64_t s = 0;
        for (size_t i = 0; i < digits && s <= max_s; i++)
            s = s * 10 + (value[i] - '0');
        return (s > max_s ? max_s : s) * 1000;
    }
    time_t at = curl_getdate(value, NULL);
    if (at == (time_t)-1)
        return -1;
    int64_t left = (int64_t)at - now_unix_s;
    return left <= 0 ? 0 : (left > max_s ? max_s : left) * 1000;
}
