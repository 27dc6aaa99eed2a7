/* health_probe.c - the kinds of probes, and what they share: how a call without an answer is named. */
#include "health/health_probe.h"

static const struct health_probe *const kinds[] = {
    [SET_PROBE_HTTP] = &health_probe_http,   [SET_PROBE_TCP] = &health_probe_tcp,
    [SET_PROBE_LLM] = &health_probe_llm,     [SET_PROBE_TLS] = &health_probe_tls,
    [SET_PROBE_DNS] = &health_probe_dns,     [SET_PROBE_RESOURCE] = &health_probe_resource,
    [SET_PROBE_LOG] = &health_probe_log,     [SET_PROBE_BUS] = &health_probe_bus,
    [SET_PROBE_STORE] = &health_probe_store,
};

const struct health_probe *health_probe_of(int set_probe_type)
{
    return (size_t)set_probe_type < sizeof kinds / sizeof *kinds ? kinds[set_probe_type] : NULL;
}

static const uint8_t fault_of[] = {
    [HTTP_OK] = HEALTH_FAULT_NONE,
    [HTTP_RESOLVE] = HEALTH_FAULT_RESOLVE,
    [HTTP_CONNECT] = HEALTH_FAULT_CONNECT,
    [HTTP_TLS] = HEALTH_FAULT_TLS,
    [HTTP_CERTIFICATE] = HEALTH_FAULT_CERTIFICATE,
    [HTTP_TIMEOUT] = HEALTH_FAULT_TIMEOUT,
    [HTTP_CUT] = HEALTH_FAULT_CUT,
    [HTTP_TOO_LARGE] = HEALTH_FAULT_TOO_LARGE,
    [HTTP_BAD_ANSWER] = HEALTH_FAULT_SCHEMA,
    [HTTP_LOGIN] = HEALTH_FAULT_AUTH,
    [HTTP_FORBIDDEN] = HEALTH_FAULT_CONNECT,
    [HTTP_CANCELLED] = HEALTH_FAULT_CANCELLED,
    [HTTP_FAILED] = HEALTH_FAULT_CONNECT, /* whatever it was: not shown to be well */
};

static uint32_t clamp(int64_t ms)
{
    return ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : (uint32_t)ms;
}

bool health_probe_failed(const struct http_result *h, struct health_result *r)
{
    r->total_ms = clamp(h->total_ms);
    r->retry_after_ms = h->retry_after_ms > 0 ? clamp(h->retry_after_ms) : 0;
    r->status = (uint16_t)(h->status > 0 && h->status < 1000 ? h->status : 0);
    r->fault = (size_t)h->fault < sizeof fault_of ? fault_of[h->fault] : HEALTH_FAULT_CONNECT;
    if (h->fault == HTTP_OK)
        return false;
    if (!*r->detail) /* who knows more has said it */
        health_detail(r, "%s", *h->error ? h->error : http_fault_text(h->fault));
    return true;
}

void health_probe_tls_of(const struct set_probe *set, struct http_tls *ret)
{
    *ret = (struct http_tls){.ca_file = set->tls_ca_file,
                             .cert_file = set->tls_cert_file,
                             .key_file = set->tls_key_file,
                             .any_peer = !set->tls_verify};
}
