//! The gateway: sessions in front of an application in any language.
