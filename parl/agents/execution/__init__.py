"""Executions: one compiled program on the device, the host, or Ray workers."""

from parl.agents.execution.protocol import Execution as Execution
from parl.agents.execution.protocol import Report as Report
from parl.agents.execution.protocol import Seeds as Seeds
