/* rollback_executor.c - which executor runs a deployment. */
#include "rollback/rollback_executor.h"
#include <assert.h>

const struct executor_kind *executor_of(const struct set_deployment *set)
{
    static const struct executor_kind *const kinds[] = {
        [SET_EXECUTOR_DOCKER] = &executor_docker,
        [SET_EXECUTOR_KUBERNETES] = &executor_kubernetes,
        [SET_EXECUTOR_EXEC] = &executor_exec,
    };
    if (set->executor == SET_EXECUTOR_KUBERNETES && !*set->kubernetes.canary)
        return &executor_kubernetes_patch;
    assert(set->executor >= 0 && (size_t)set->executor < sizeof kinds / sizeof *kinds);
    return kinds[set->executor];
}
