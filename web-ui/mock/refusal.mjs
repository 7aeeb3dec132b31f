/** An error that the server sends as the contract says. */
export class Refusal extends Error {
  constructor(status, code, facts = {}) {
    super(code);
    Object.assign(this, { status, code, facts });
  }
}
