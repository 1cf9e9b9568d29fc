"""Settings of a run. This module alone reads the environment; order: command line > environment > default."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

Provider = Literal["openai", "recorded", "off"]


class Prices(NamedTuple):
    """US dollars for a million tokens; the defaults are those of gpt-5-mini."""

    input: float = 0.25
    cached: float = 0.025
    output: float = 2.0


PRICES = Prices()


class Settings(BaseSettings):
    """What a night needs to know about its surroundings. Every field is `NIGHTLOG_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="NIGHTLOG_", extra="ignore", frozen=True)

    lake: Path = Path("lake")
    data: Path | None = Field(None, description="folder of the log files; default: the sample corpus that ships with Nightlog")
    systems: Path | None = Field(None, description="folder of the user's own system files")
    llm: Provider | None = Field(None, description="default: openai where OPENAI_API_KEY is set, else off")
    llm_model: str = "gpt-5-mini"
    llm_recorded: Path | None = Field(None, description="recorded verdicts; default: those of the sample corpus")
    llm_items_per_call: int = Field(20, ge=1, le=200)
    llm_side_by_side: int = Field(80, ge=1, le=500, description="patterns in one request of the second round")
    llm_calls_per_night: int = Field(200, ge=0, description="no more calls than this in one night, retries included")
    llm_timeout_s: float = Field(120.0, gt=0)
    llm_price_in: float = Field(PRICES.input, ge=0, description="US dollars for a million prompt tokens")
    llm_price_cached: float = Field(PRICES.cached, ge=0, description="for a million prompt tokens that the provider had cached")
    llm_price_out: float = Field(PRICES.output, ge=0, description="for a million completion tokens")
    openai_base_url: str | None = Field(None, validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr | None = Field(None, validation_alias="OPENAI_API_KEY")
    master: str = "local[*]"
    driver_memory: str = "4g"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bronze_days: int = Field(90, ge=1, description="nights' lines are kept for so many days, by `nightlog maintain`")
    silver_days: int = Field(180, ge=1, description="events, sessions, patterns, routes and scores")
    gold_days: int = Field(730, ge=1, description="anomalies and nights; verdicts, answers and models are kept for ever")
    replay_days: int = Field(14, ge=7, le=29, description="earlier versions of tables can be read for so many days; Delta's log ends at 30")

    @property
    def provider(self) -> Provider:
        """Who judges proprietary patterns."""
        if self.llm is not None:
            return self.llm
        return "openai" if self.openai_api_key is not None else "off"

    @property
    def prices(self) -> Prices:
        """What tokens cost."""
        return Prices(self.llm_price_in, self.llm_price_cached, self.llm_price_out)

    @property
    def logs(self) -> Path:
        """The folder under which the systems' paths are looked up."""
        return self.data if self.data is not None else Path(__file__).parent / "sample" / "logs"

    @property
    def verdicts(self) -> Path:
        """The file that the provider "recorded" answers from."""
        return self.llm_recorded or Path(__file__).parent / "sample" / "verdicts.jsonl"
