/* docker_gaps.c - what of a container cannot be carried over to a second one that stands beside it. Pure. */
#include "rollback/docker_api.h"
#include "rollback/docker_spec.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct gaps {
    char (*text)[256];
    size_t n, max;
};

__attribute__((format(printf, 2, 3))) static void add(struct gaps *g, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (g->n < g->max)
        vsnprintf(g->text[g->n], sizeof g->text[g->n], fmt, ap);
    g->n++;
    va_end(ap);
}

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* A port of the host that is named belongs to one container at a time; one of the engine's choice, or of a range, does not. */
static bool fixed_port(const json_t *bindings, const char **ret)
{
    size_t i;
    const json_t *b;
    json_array_foreach(bindings, i, b)
    {
        const char *port = docker_text(b, "HostPort");
        if (*port && strcmp(port, "0") != 0 && !strchr(port, '-')) {
            *ret = port;
            return true;
        }
    }
    return false;
}

bool docker_port_fixed(const json_t *bindings)
{
    const char *port;
    return fixed_port(bindings, &port);
}

static void ports(struct gaps *g, const json_t *host)
{
    const char *inside, *port;
    const json_t *bindings;
    json_object_foreach((json_t *)json_object_get(host, "PortBindings"), inside, bindings)
    {
        if (fixed_port(bindings, &port))
            add(g,
                "port %.10s of the host is published for %.20s: two containers cannot have it at a time; take it "
                "away "
                "and put HAProxy in front",
                port, inside);
    }
}

static void networks(struct gaps *g, const json_t *spec, int64_t port)
{
    const json_t *n, *host = json_object_get(spec, "HostConfig");
    const char *name, *mode = docker_text(host, "NetworkMode");
    if (begins(mode, "container:"))
        add(g, "it lives in the network of another container (%.40s): give it a network of its own", mode);
    if (strcmp(mode, "host") == 0 && port > 0)
        add(g, "it listens on port %lld of the host's own network: a second one could not; give it a bridge network",
            (long long)port);
    json_object_foreach((json_t *)json_object_get(spec, "Networks"), name, n)
    {
        const json_t *ipam = json_object_get(n, "IPAMConfig");
        const char *v4 = docker_text(ipam, "IPv4Address"), *v6 = docker_text(ipam, "IPv6Address");
        if (*v4 || *v6)
            add(g, "it has the fixed address %.45s in network %.60s: two containers cannot; use its name instead",
                *v4 ? v4 : v6, name);
    }
}

size_t docker_spec_gaps(const json_t *spec, int64_t port, char (*gap)[256], size_t max)
{
    struct gaps g = {.text = gap, .max = max};
    const json_t *host = json_object_get(spec, "HostConfig"), *config = json_object_get(spec, "Config"), *v;
    size_t i;
    json_array_foreach(json_object_get(spec, "Gaps"), i, v)
    {
        if (json_is_string(v))
            add(&g, "%s", json_string_value(v));
    }
    if (json_is_true(json_object_get(host, "AutoRemove")))
        add(&g, "it was started with --rm: once stopped it is gone, and its unnamed volumes are; start it without");
    if (*docker_text(config, "MacAddress"))
        add(&g, "it has the fixed MAC address %.20s: two containers cannot; take it away",
            docker_text(config, "MacAddress"));
    if (begins(docker_text(host, "PidMode"), "container:") || begins(docker_text(host, "IpcMode"), "container:"))
        add(&g, "it shares the processes or the memory of another container, which may be gone: give it its own");
    if (*docker_text(json_object_get(config, "Labels"), "com.docker.swarm.service.id"))
        add(&g, "it belongs to a swarm service, which would replace it: roll that back by executor exec");
    ports(&g, host);
    networks(&g, spec, port);
    return g.n;
}
