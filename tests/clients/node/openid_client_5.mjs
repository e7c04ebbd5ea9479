// openid-client (certified), version 5: what many sites have, by way of Passport and others.
import { Issuer, generators } from "openid-client-5";
import { serve } from "./lines.mjs";

let client;
const begun = new Map();

await serve({
  async discover({ issuer, clientId, authentication, responseType, alg }) {
    const { Client } = await Issuer.discover(issuer);
    client = new Client({
      client_id: clientId,
      client_secret: authentication === "none" ? undefined : "a secret: that nobody/checks",
      token_endpoint_auth_method: authentication,
      response_types: [responseType],
      ...(alg ? { id_token_signed_response_alg: alg } : {}),
    });
    return true;
  },

  async begin({ redirectUri, pkce, ...more }) {
    const checks = { state: generators.state(), nonce: generators.nonce() };
    const parameters = { redirect_uri: redirectUri, scope: "openid email", ...checks, ...more };
    if (pkce) {
      checks.code_verifier = generators.codeVerifier();
      parameters.code_challenge = generators.codeChallenge(checks.code_verifier);
      parameters.code_challenge_method = "S256";
    }
    begun.set(checks.state, { redirectUri, checks });
    return { url: client.authorizationUrl(parameters), state: checks.state };
  },

  async finishCode({ state, url }) {
    const { redirectUri, checks } = begun.get(state);
    const tokens = await client.callback(redirectUri, client.callbackParams(url), checks);
    return { claims: tokens.claims(), userinfo: await client.userinfo(tokens) };
  },

  async finishFormPost({ state, url, fields }) {
    const { redirectUri, checks } = begun.get(state);
    const request = { method: "POST", url, body: new URLSearchParams(fields).toString() };
    const parameters = client.callbackParams(request);
    return (await client.callback(redirectUri, parameters, checks)).claims();
  },

  async finishFragment({ state, url }) {
    const { redirectUri, checks } = begun.get(state);
    const parameters = Object.fromEntries(new URLSearchParams(new URL(url).hash.slice(1)));
    return (await client.callback(redirectUri, parameters, checks)).claims();
  },
});
