#!/bin/sh
# As the official image's: a new cluster on an empty volume, then the scripts, then the server.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait -o "-c listen_addresses= -c unix_socket_directories=/var/run/postgresql" start
    export PGPASSWORD="$POSTGRES_PASSWORD" PGHOST=/var/run/postgresql
    psql -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$script"
    done
    pg_ctl --wait --mode=fast stop
fi
exec postgres -c "listen_addresses=*" -c unix_socket_directories=/var/run/postgresql
