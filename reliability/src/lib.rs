//! Races, faults and recorded histories against every store of Cloakroom.
