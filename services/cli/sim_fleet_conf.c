/* sim_fleet_conf.c - the simulated fleet's names, and the settings that the suite needs to protect it. */
#include "cli/sim_fleet.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CHAIN_MAX 16

const char *fleet_name(const char *prefix, size_t i, char buf[static NAME_MAX_LEN + 1])
{
    snprintf(buf, NAME_MAX_LEN + 1, "%.56s%05zu", prefix, i + 1);
    return buf;
}

/* "target=model,target=model" as items of YAML; false if it is not that. */
static bool chain_text(const char *list, char *out, size_t size)
{
    size_t used = 0;
    int items = 0;
    for (const char *at = list; *at;) {
        size_t n = strcspn(at, ","), target = strcspn(at, "=,");
        char name[TARGET_MAX_LEN + 1] = "";
        snprintf(name, sizeof name, "%.*s", (int)(target < sizeof name ? target : sizeof name - 1), at);
        if (target >= n || target > TARGET_MAX_LEN || !name_target_ok(name) || n - target - 1 == 0 ||
            n - target - 1 > 256 || ++items > CHAIN_MAX || memchr(at, '"', n) || memchr(at, '\\', n))
            return false;
        used += (size_t)snprintf(out + used, size - used, "%s{target: %s, model: \"%.*s\"}", items > 1 ? ", " : "",
                                 name, (int)(n - target - 1), at + target + 1);
        if (used >= size)
            return false;
        at += n + (at[n] == ',');
    }
    return items > 0;
}

int fleet_print_settings(struct cli *c, const struct opts_sim_fleet *o)
{
    char chain[CHAIN_MAX * 450], name[NAME_MAX_LEN + 1];
    if (!chain_text(o->chain, chain, sizeof chain))
        return cli_fail(c, CLI_USAGE, "--chain: expected TARGET=MODEL,... with up to %d items", CHAIN_MAX);
    if (o->backend && !name_target_ok(o->backend))
        return cli_fail(c, CLI_USAGE, "--backend: expected the name of a target");
    printf("# %" PRId64 " simulated agents: `redoubt sim fleet -n %" PRId64 " --prefix %s`\nagents:\n", o->n, o->n,
           o->prefix);
    for (size_t i = 0; i < (size_t)o->n; i++) {
        printf("  - {name: %s, heartbeat: %" PRId64 "ms, chain: [%s]", fleet_name(o->prefix, i, name),
               o->heartbeat_ms, chain);
        if (o->backend)
            printf(", backend: %s", o->backend);
        if (o->actions_url)
            printf(", actions: {url: \"%s\"}", o->actions_url);
        puts("}");
    }
    return CLI_OK;
}
