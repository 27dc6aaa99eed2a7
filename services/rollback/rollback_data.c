/* rollback_data.c - the learning data of a deployment: saved, verified, restored, never lost. */
#include "rollback/rollback_data.h"

bool data_has(const struct set_deployment *set)
{
    return set->data.repository && *set->data.repository;
}
