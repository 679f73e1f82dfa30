//! DescribeUserScramCredentials (KIP-554): nobody has any. `kafka-configs --entity-type users` asks for them along with
//! quotas, so it has to be told.

use std::collections::BTreeMap;

use kafka_wire::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_wire::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};

use super::common::build;
use super::request::Cx;
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub async fn handle(
    cx: &Cx,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    if let Err(error) = cx.admit(Operation::Describe, Resource::Cluster) {
        return build(|r: &mut DescribeUserScramCredentialsResponse| r.error_code = error.code());
    }
    let response = answer(&request);
    response.results.iter().for_each(|r| cx.count(ErrorCode::from_code(r.error_code)));
    response
}

fn answer(request: &DescribeUserScramCredentialsRequest) -> DescribeUserScramCredentialsResponse {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for user in request.users.iter().flatten() {
        *times.entry(&user.name).or_default() += 1;
    }
    let results = times.into_iter().map(|(user, times)| {
        let (code, why) = match times {
            1 => (ErrorCode::ResourceNotFound, "Attempt to describe a user credential that does not exist: "),
            _ => (
                ErrorCode::DuplicateResource,
                "Cannot describe SCRAM credentials for the same user twice in a single request: ",
            ),
        };
        build(|r: &mut DescribeUserScramCredentialsResult| {
            r.user = user.into();
            r.error_code = code.code();
            r.error_message = Some(format!("{why}{user}").into());
        })
    });
    build(|r: &mut DescribeUserScramCredentialsResponse| r.results = results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_wire::describe_user_scram_credentials_request::UserName;

    use super::super::common::testing::round_trip;
    use super::*;

    #[test]
    fn nobody_has_credentials() {
        let ask = |names: Option<&[&str]>| {
            let mut request = DescribeUserScramCredentialsRequest::default();
            let user = |name: &&str| build(|u: &mut UserName| u.name = (*name).into());
            request.users = names.map(|names| names.iter().map(user).collect());
            let reply = round_trip(&answer(&request), 0);
            reply.results.iter().map(|r| (r.user.to_string(), r.error_code)).collect::<Vec<_>>()
        };
        assert!(ask(None).is_empty() && ask(Some(&[])).is_empty());
        assert_eq!(ask(Some(&["b", "a", "b"])), [("a".to_string(), 91), ("b".to_string(), 92)]);
    }
}
