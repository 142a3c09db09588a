//! Cloakroom sessions in Redis or Valkey, single or Cluster: for applications on several machines.
