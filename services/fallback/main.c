/* main.c - redoubt-fallback. */
#include "fallback/fallback_shell.h"

int main(int argc, char **argv)
{
    return service_main(argc, argv, &fallback_service);
}
