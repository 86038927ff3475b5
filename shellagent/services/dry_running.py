"""What governance would say of a command that an agent asked for now. Nothing is kept."""

from dataclasses import replace

from governance.models import Agent
from governance.policy.types import Decision, Maturity
from shellagent.errors import NoHostError
from shellagent.models import AgentHost, Host
from shellagent.services.asking import link_choose
from shellagent.services.deciding import Circumstances
from shellagent.services.reading import Ask, request_read


def dry_run(*, agent: Agent, ask: Ask, maturity: Maturity | None = None) -> Decision:
    """Return the decision with the rules of now, on the host that the agent would get; another maturity may be tried.

    Without a usable host the decision is that of a host which reported nothing. Raises ProblemError as
    `session_request` does for what cannot be read and for a host that the agent may not use.
    """
    request = request_read(ask)
    link: AgentHost | None
    try:
        link = link_choose(ask.host, agent.pk)
        host = link.host
    except NoHostError:
        link, host = None, Host()
    circumstances = Circumstances.of(
        agent=agent.name, maturity=agent.maturity, is_suspended=agent.is_suspended, host=host, link=link
    )
    if maturity is not None:
        circumstances = replace(circumstances, maturity=maturity)
    directory = ask.working_directory or (link.working_directory if link else "")
    return circumstances.decide(request, directory)
