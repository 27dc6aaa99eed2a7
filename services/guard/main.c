/* main.c - redoubt-guard. */
#include "guard/guard_shell.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &guard_service);
}
