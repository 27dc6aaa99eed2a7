/* health_probe.c - the kinds of probes, and what they share: how a call without an answer is named. */
#include "health/health_probe.h"

const struct health_probe *health_probe_of(int set_probe_type)
{
    switch (set_probe_type) {
    case SET_PROBE_HTTP:
        return &health_probe_http;
    case SET_PROBE_TCP:
        return &health_probe_tcp;
    case SET_PROBE_LLM:
        return &health_probe_llm;
    case SET_PROBE_RESOURCE:
        return &health_probe_resource;
    case SET_PROBE_LOG:
        return &health_probe_log;
    case SET_PROBE_BUS:
        return &health_probe_bus;
    case SET_PROBE_STORE:
        return &health_probe_store;
    default:
        return NULL;
    }
}

static const uint8_t fault_of[] = {
    [HTTP_OK] = HEALTH_FAULT_NONE,
    [HTTP_RESOLVE] = HEALTH_FAULT_RESOLVE,
    [HTTP_CONNECT] = HEALTH_FAULT_CONNECT,
    [HTTP_TLS] = HEALTH_FAULT_TLS,
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
    health_detail(r, "%s", *h->error ? h->error : http_fault_text(h->fault));
    return true;
}
