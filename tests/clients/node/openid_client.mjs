// openid-client (certified), version 6.
import * as client from "openid-client";
import { serve } from "./lines.mjs";

let config;
const begun = new Map();

const authentications = {
  none: () => client.None(),
  client_secret_basic: () => client.ClientSecretBasic("a secret: that nobody/checks"),
  client_secret_post: () => client.ClientSecretPost("a secret: that nobody/checks"),
};

await serve({
  async discover({ issuer, clientId, authentication, responseType, alg }) {
    config = await client.discovery(
      new URL(issuer),
      clientId,
      alg ? { id_token_signed_response_alg: alg } : {},
      authentications[authentication](),
      { execute: [client.allowInsecureRequests] },
    );
    if (responseType === "id_token") client.useIdTokenResponseType(config);
    return config.serverMetadata().supportsPKCE();
  },

  async begin({ redirectUri, pkce, ...more }) {
    const login = { state: client.randomState(), nonce: client.randomNonce() };
    const parameters = { redirect_uri: redirectUri, scope: "openid email", ...login, ...more };
    if (pkce) {
      login.verifier = client.randomPKCECodeVerifier();
      parameters.code_challenge = await client.calculatePKCECodeChallenge(login.verifier);
      parameters.code_challenge_method = "S256";
    }
    begun.set(login.state, login);
    return { url: client.buildAuthorizationUrl(config, parameters).href, state: login.state };
  },

  async finishCode({ state, url }) {
    const login = begun.get(state);
    const tokens = await client.authorizationCodeGrant(config, new URL(url), {
      expectedState: login.state,
      expectedNonce: login.nonce,
      pkceCodeVerifier: login.verifier,
      idTokenExpected: true,
    });
    const claims = tokens.claims();
    return { claims, userinfo: await client.fetchUserInfo(config, tokens.access_token, claims.sub) };
  },

  async finishFormPost({ state, url, fields }) {
    const login = begun.get(state);
    const request = new Request(url, { method: "POST", body: new URLSearchParams(fields) });
    return await client.implicitAuthentication(config, request, login.nonce, { expectedState: login.state });
  },

  async finishFragment({ state, url }) {
    const login = begun.get(state);
    return await client.implicitAuthentication(config, new URL(url), login.nonce, { expectedState: login.state });
  },
});
