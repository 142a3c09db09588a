//! Cloakroom sessions in PostgreSQL: for applications on several machines.
