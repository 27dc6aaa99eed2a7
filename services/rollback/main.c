/* main.c - redoubt-rollback. */
#include "rollback/rollback_shell.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &rollback_service);
}
