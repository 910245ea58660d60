"""The contract cases of the toy models, which need no checkpoint."""

from longtake.models.family import ContractCase

CLOCK = {"clock": ContractCase(strategy="sliding", options={"steps": 4}, frames=121)}
GAUSS = {"gauss": ContractCase(strategy="sliding", options={"steps": 4}, frames=40)}
