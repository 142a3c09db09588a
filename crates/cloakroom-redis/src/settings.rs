//! Options that have been checked: all that is needed to connect.

use std::net::IpAddr;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates,
};

use crate::cluster::name;
use crate::layout::Keys;
use crate::node::Node;

pub(crate) struct Settings {
    pub(crate) cluster: bool,
    pub(crate) hosts: Vec<(String, u16)>,
    pub(crate) database: i64,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// `None` without TLS.
    pub(crate) tls: Option<TlsCertificates>,
    /// Whether somebody has accepted that everything is readable on the network.
    pub(crate) plaintext_accepted: bool,
    pub(crate) keys: Keys,
    pub(crate) timeout: Duration,
    pub(crate) replicas: u32,
}

impl Settings {
    /// A server, not yet connected. The nodes of a cluster are held to the same rules as those that were named.
    pub(crate) fn node(&self, host: &str, port: u16) -> Result<Node, RedisError> {
        let mut redis = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_skip_set_lib_name()
            .set_db(self.database);
        if let Some(user) = &self.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        let info = |address: ConnectionAddr| -> Result<ConnectionInfo, RedisError> {
            let tcp = TcpSettings::default().set_nodelay(true);
            Ok(address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(redis))
        };
        let host = host.to_owned();
        let client = match &self.tls {
            Some(certificates) => {
                let address =
                    ConnectionAddr::TcpTls { host: host.clone(), port, insecure: false, tls_params: None };
                Client::build_with_tls(info(address)?, certificates.clone())?
            }
            None if self.plaintext_accepted || is_loopback(&host) => {
                Client::open(info(ConnectionAddr::Tcp(host.clone(), port))?)?
            }
            None => {
                let text =
                    "the cluster has a node that is not on this machine, and the connection is not encrypted";
                return Err(RedisError::from((ErrorKind::InvalidClientConfig, text)));
            }
        };
        // Half of the time that an operation has, so that there is some left to ask who else has the keys.
        Ok(Node::new(name(&host, port), client, self.timeout / 2))
    }

    /// Whether what is said to the servers can be read on a network.
    pub(crate) fn is_exposed(&self) -> bool {
        self.tls.is_none() && !self.hosts.iter().all(|(host, _)| is_loopback(host))
    }
}

pub(crate) fn certificates(root: Option<Vec<u8>>, client: Option<(Vec<u8>, Vec<u8>)>) -> TlsCertificates {
    let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
    TlsCertificates { client_tls, root_cert: root }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
